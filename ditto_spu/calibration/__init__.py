"""Ranges observed on a user's data, and how much room the chosen formats leave above them."""
