"""Other systems run on the same function, for comparison."""
