"""Ranges observed on a user's data, and the room that the chosen formats leave above them."""
