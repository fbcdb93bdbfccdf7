"""This folder has reciprocals, inverse square roots and quotients of secret values."""
