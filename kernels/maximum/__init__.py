"""This folder has maxima and their places, comparisons, magnitude, clamping and rounding."""
