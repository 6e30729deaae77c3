"""A model endpoint that fails by schedule, and many turns at once that have to bear it."""
