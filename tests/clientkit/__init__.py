"""What the client's tests share: a server that does what the test says."""
