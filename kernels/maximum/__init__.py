"""The largest of secret values, and its place."""
