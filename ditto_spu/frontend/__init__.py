"""From a Python call to a traced module whose arguments have owners."""
