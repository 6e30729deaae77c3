"""The gRPC edge: the only importer of grpc; one error table, one validation table."""
