"""This folder has number formats, replicated shares, and arrays without numbers."""
