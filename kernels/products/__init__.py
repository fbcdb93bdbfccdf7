"""This folder has products of secret tensors with secret and with public ones."""
