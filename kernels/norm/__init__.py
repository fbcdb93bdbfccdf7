"""Layer normalisation and root-mean-square normalisation of secret rows."""
