"""Define the models that checkpoints are loaded into: compact Flax modules, and their settings."""
