"""What tests of the engine and its stores are made of."""
