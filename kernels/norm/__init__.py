"""This folder has layer normalisation and root-mean-square normalisation of secret rows."""
