"""This folder has protocols on shared bits: signs, selection, one-hot digits, tables, point functions."""
