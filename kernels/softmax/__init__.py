"""This folder has softmax, the exponential function and the plans that choose their form."""
