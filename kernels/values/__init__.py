"""Fixed-point formats and replicated shares."""
