"""Compare the models of `ditto.load` with torch's transformers, which runs in an environment of its own.

`make check-torch` writes the models and their outputs there (`write.py`), and compares them here.
"""

REFERENCE = "reference.npz"  # ids, mask, outputs and greedy tokens of one model, beside its files
