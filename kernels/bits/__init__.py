"""Protocols on shared bits: signs, selection, one-hot digits, tables and point functions."""
