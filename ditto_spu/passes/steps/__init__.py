"""Hold the passes that cut a module into the steps of a plan."""
