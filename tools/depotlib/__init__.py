"""The parts of `tools/depot.py`.

work         files, reporters, and the runner of package clients
sources      the kinds of source, each making one artifact's file
declaration  depot.yml and depot.lock
store        the depot folder and its manifest
"""
