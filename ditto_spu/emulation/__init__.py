"""The compiled program in plaintext, with its roundings, and the errors that kernels add."""
