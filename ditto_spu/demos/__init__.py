"""Provide the programs that `make demo` and `make demo-cluster` run."""
