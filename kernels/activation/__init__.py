"""Functions of one secret value: GeLU, tanh, sigmoid, SiLU and the forms that approximate them."""
