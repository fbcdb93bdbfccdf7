"""Distributed point functions expand short keys of A and B to additive shares of a one-hot vector.

Source: Boyle, Gilboa, Ishai, "Function Secret Sharing: Improvements and Extensions" (CCS 2016), section
3.2.1. The trees stop early: a leaf of 128 bits is four elements of Z_2^32. The generator is AES with fixed
keys in Matyas-Meyer-Oseas mode, with AES as ideal cipher. Children carry their control bit in the lowest bit,
and seeds keep that bit zero.
"""

from __future__ import annotations

import hashlib

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

LEAF_BITS = 2  # A leaf has four ring elements.
_LEFT, _RIGHT, _LEAF = (
    hashlib.blake2b(each, digest_size=16).digest() for each in (b"left", b"right", b"leaf")
)
_SEED = np.array([~np.uint64(1), ~np.uint64(0)])  # The lowest bit of a seed is the place of its control bit.

Blocks = NDArray[np.uint64]  # (..., 2)
Bytes = NDArray[np.uint8]


def _hash(key: bytes, blocks: Blocks) -> Blocks:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # A fixed key is a public permutation.
    encrypted = np.frombuffer(encryptor.update(np.ascontiguousarray(blocks).data.cast("B")), dtype=np.uint64)
    return encrypted.reshape(blocks.shape) ^ blocks


def _children(seeds: Blocks) -> tuple[Blocks, Bytes]:
    """Return (seeds, control bits) of both children, in shapes (..., 2, 2) and (..., 2)."""
    pair = np.stack([_hash(_LEFT, seeds), _hash(_RIGHT, seeds)], axis=-2)
    control = (pair[..., 0] & np.uint64(1)).astype(np.uint8)
    pair &= _SEED
    return pair, control


def _leaf(seeds: Blocks) -> NDArray[np.int32]:
    return _hash(_LEAF, seeds).view(np.int32)


def generate(
    points: NDArray[np.int64], depth: int, first: Blocks, second: Blocks
) -> tuple[Blocks, Bytes, NDArray[np.int32]]:
    """Return corrections for n points in [0, 2^(depth + 2)) from A's and B's root seeds (n, 2).

    They are seed corrections (depth, n, 2), control corrections (depth, n) with bit 0 for left and bit 1 for
    right, and leaf corrections (n, 4). They are the same for A and B, and look random beside one root seed.
    """
    count = len(points)
    rows = np.arange(count)
    seeds = np.stack([first, second]) & _SEED
    control = np.stack([np.zeros(count, np.uint8), np.ones(count, np.uint8)])
    corrections = np.empty((depth, count, 2), np.uint64)
    flips = np.empty((depth, count), np.uint8)
    for level in range(depth):
        keep = ((points >> (LEAF_BITS + depth - 1 - level)) & 1).astype(np.uint8)
        pair, bits = _children(seeds)
        corrections[level] = pair[0, rows, 1 - keep] ^ pair[1, rows, 1 - keep]
        flip = bits[0] ^ bits[1]
        flip[:, 0] ^= keep ^ 1
        flip[:, 1] ^= keep
        flips[level] = flip[:, 0] | flip[:, 1] << 1
        seeds = pair[:, rows, keep] ^ corrections[level] * control[..., None]
        control = bits[:, rows, keep] ^ control * flip[rows, keep]
    target = (points[:, None] % 4 == np.arange(4)).astype(np.int32)
    leaves = _leaf(seeds)
    sign = 1 - 2 * control[1].astype(np.int32)
    return corrections, flips, sign[:, None] * (target - leaves[0] + leaves[1])


def evaluate(
    seeds: Blocks, corrections: Blocks, flips: Bytes, final: NDArray[np.int32], first: bool
) -> NDArray[np.int32]:
    """Return one party's share of the one-hot vectors: (n, 2^(depth + 2)).

    Nodes are the first dimension and points follow, so that numpy's inner loops run over points, on the
    strided words of blocks.
    """
    count = len(seeds)
    nodes = (seeds & _SEED)[None]
    control = np.full(
        (1, count), 0 if first else 2**64 - 1, np.uint64
    )  # all ones where the control bit is set
    for correction, flip in zip(corrections, flips, strict=True):
        pair = np.empty((len(nodes), 2, count, 2), np.uint64)
        following = np.empty((len(nodes), 2, count), np.uint64)
        for side, key in enumerate((_LEFT, _RIGHT)):
            child, bits = _hash(key, nodes), following[:, side]
            np.negative(child[..., 0] & np.uint64(1), out=bits)
            bits ^= control & -(flip >> side & 1).astype(np.uint64)
            for word in range(2):
                np.bitwise_xor(
                    child[..., word] & _SEED[word], control & correction[:, word], out=pair[:, side, :, word]
                )
        nodes, control = pair.reshape(-1, count, 2), following.reshape(-1, count)
    shares = _leaf(nodes)
    chosen = control.astype(np.int32)  # All ones become -1.
    for place in range(4):
        shares[..., place] += final[:, place] & chosen
    if not first:
        np.negative(shares, out=shares)
    blocks = shares.view(np.complex128)[..., 0]  # Blocks of 16 bytes move as wholes.
    return np.ascontiguousarray(blocks.T).view(np.int32).reshape(count, -1)
