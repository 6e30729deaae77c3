"""Support for tests of the whole service: a real server process, a scripted model, raw streams."""
