"""The kill matrix: worlds of real servers, stores and clients, the faults that befall them, and what must hold."""
