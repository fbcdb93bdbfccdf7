"""Turn a Python call into a traced module whose arguments have owners."""
