"""Runs a party as a server: sessions, requests, stored weights, SPU's processes, metrics."""
