"""Products of secret tensors with secret and with public ones."""
