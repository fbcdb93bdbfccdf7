"""This folder has the guard: kernels that tell, in one bit, whether the values of a request stayed in range."""
