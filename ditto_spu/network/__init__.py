"""Describes networks, predicts the time that a run takes on one, and emulates one on this machine."""
