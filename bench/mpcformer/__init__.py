"""MPCFormer (Quad, 2Quad) re-made on CrypTen: two parties and a dealer in an environment of their own.

Source: Li et al., MPCFormer: fast, performant and private Transformer inference with MPC, arXiv 2211.01452;
Knott et al., CrypTen: Secure Multi-Party Computation Meets Machine Learning, arXiv 2109.00984.
"""

ANSWER = "mpcformer-answer "  # opens a party's line for its side
