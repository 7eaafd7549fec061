"""One module for each dashboard; each has a function `build`."""
