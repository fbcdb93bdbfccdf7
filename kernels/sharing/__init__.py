"""Conversions between sharings and between fixed-point formats."""
