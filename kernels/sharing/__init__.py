"""This folder converts between kinds of sharings and between fixed-point formats."""
