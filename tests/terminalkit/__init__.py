"""What the tests of the terminal programs share."""
