"""A function under three-party computation: its options, its compilations, and the ways to run it."""
