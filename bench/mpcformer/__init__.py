"""Run MPCFormer (Quad, 2Quad), re-implemented on CrypTen.

Two parties and a dealer run in an environment of their own.

Source: Li et al., MPCFormer: fast, performant and private Transformer inference with MPC, arXiv 2211.01452;
Knott et al., CrypTen: Secure Multi-Party Computation Meets Machine Learning, arXiv 2109.00984.
"""

ANSWER = "mpcformer-answer "  # first part of a party's answer to its side
