"""The client of a cluster: connections, uploads of shares, material, answers."""
