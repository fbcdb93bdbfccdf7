"""This folder has the maximum along a dimension and its place."""
