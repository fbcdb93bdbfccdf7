"""The compiler passes: each takes a StableHLO module and leaves a valid one that XLA can run in plaintext."""
