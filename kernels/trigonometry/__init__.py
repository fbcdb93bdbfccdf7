"""This folder has sines and cosines of any argument, and series of bounded arguments for other functions."""
