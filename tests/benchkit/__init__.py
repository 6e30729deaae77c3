"""Measures the service beside what bounds it: bare gRPC, the model itself, and other agent servers."""
