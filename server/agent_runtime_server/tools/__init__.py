"""Tools: what can be called, with which arguments, and in which order."""
