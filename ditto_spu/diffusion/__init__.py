"""Sample pictures from diffusion models whose weights and pictures stay in shares."""
