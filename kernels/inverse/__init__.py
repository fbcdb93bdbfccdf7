"""Reciprocals, inverse square roots and quotients of secret values."""
