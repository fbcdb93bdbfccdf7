"""Implements a cluster's client: connections, uploads of shares, material, answers."""
