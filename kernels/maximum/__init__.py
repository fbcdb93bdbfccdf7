"""The largest of secret values and its place, comparisons, magnitude, clamping and rounding."""
