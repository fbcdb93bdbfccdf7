"""This folder has functions of one secret value (GeLU, tanh, sigmoid, SiLU) and their approximations."""
