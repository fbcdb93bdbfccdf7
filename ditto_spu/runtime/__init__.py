"""How a plan is executed: three simulated parties, local steps, offline material."""
