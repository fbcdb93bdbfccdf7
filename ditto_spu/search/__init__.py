"""The search for cheaper formats within an error budget."""
