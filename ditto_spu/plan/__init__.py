"""The compiled program as plain data, with its checks, its cost and its error probability."""
