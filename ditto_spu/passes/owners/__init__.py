"""Hold the passes that move work to the owner who can do it in plaintext."""
