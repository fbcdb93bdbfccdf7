"""Benchmark named cases: ours beside PUMA and MPCFormer, in separate processes that take turns."""
