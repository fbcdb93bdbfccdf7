"""Passes that cut a module into the steps of a plan."""
