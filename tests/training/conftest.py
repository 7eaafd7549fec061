"""Tests that make models: they run in the training environment (`make unit`)."""

from hypothesis import settings

# A test that waits for the machine is not a slow one.
settings.register_profile("plantline", deadline=None)
settings.load_profile("plantline")
