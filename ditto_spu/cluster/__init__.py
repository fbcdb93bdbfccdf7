"""Runs three parties as processes or hosts, and their clients: links, identities, agreement, server."""
