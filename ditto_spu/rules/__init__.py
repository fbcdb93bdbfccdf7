"""Precision configurations: their grammar, and how they are read from files."""
