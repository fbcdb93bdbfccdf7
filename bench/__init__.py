"""Benchmarks: named cases, ours beside PUMA on stock SPU, alternating in separate processes."""
