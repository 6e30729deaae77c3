"""What happens in a session: pure decisions (turn, draft, frames, steps, settle) and the shell that performs them."""
