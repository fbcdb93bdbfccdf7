"""This folder has the guard: kernels that tell in one bit whether all values stayed in range."""
