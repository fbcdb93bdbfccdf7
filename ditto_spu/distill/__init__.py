"""Quantisation-aware distillation: train a model through exactly the program that will be served."""
