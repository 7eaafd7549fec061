"""Day-2 looks at a plant through pyinfra: `python -m ops status|collect|probe`."""
