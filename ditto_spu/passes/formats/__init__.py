"""Hold the passes that choose a fixed-point format for every secret value."""
