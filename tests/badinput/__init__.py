"""Bad input for a running server: tables of it, and the means to send it."""
