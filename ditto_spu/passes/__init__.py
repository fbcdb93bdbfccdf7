"""Hold the compiler passes.

Each takes a StableHLO module and leaves a valid one that XLA can run in plaintext.
"""
