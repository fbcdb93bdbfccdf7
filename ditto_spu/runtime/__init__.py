"""Executes plans: the offline phase, local steps, three simulated parties and the report of a run."""
