"""Benchmarks: named cases, ours beside PUMA and MPCFormer, alternating in separate processes."""
