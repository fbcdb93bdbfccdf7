"""Three parties as processes or hosts, and their clients: link, identity, agreement, server."""
