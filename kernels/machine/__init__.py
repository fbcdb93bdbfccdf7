"""This folder has local products of ring elements, by code made for the processor or by numpy and XLA."""
