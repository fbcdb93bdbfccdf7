"""A compiled program as plain data: its steps, its cost and its failure probability."""
