"""The compiled program with its roundings in plaintext, and the errors of kernels."""
