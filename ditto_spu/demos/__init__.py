"""Programs that `make demo` and `make demo-cluster` run."""
