"""This folder has what every protocol is written with: parties, links, randomness, costs, drivers."""
