"""Read precision configurations from files, and hold their grammar."""
