"""The only room that imports SPU: its compiler, its values and its steps of a plan."""
