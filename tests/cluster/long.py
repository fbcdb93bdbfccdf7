"""Has a function that takes seconds in many rounds, so that a test can cause faults meanwhile.

As a program it is a client that runs this function once.
"""

import sys

import jax
import numpy as np

from ditto_spu import connect, secure

X = np.zeros((64, 1024), np.float32)


@secure
def long(x):
    """Compute fifty GeLUs."""
    for _ in range(50):
        x = jax.nn.gelu(x)
    return x


if __name__ == "__main__":
    with connect(sys.argv[1], "bob") as client:
        client.run(long, X)
