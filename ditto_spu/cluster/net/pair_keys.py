"""Pairwise keys of one session, from ephemeral X25519 over the authenticated connections of each pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ditto_kernels.protocol.link import LinkError
from ditto_kernels.protocol.randomness import KEY_BYTES, PairKeys


class KeyExchange:
    """One party's part: a fresh private key that lives as long as the session is being opened.

    Key j belongs to parties j and j - 1, the holders of component j. It is HKDF-SHA256 of their shared
    secret, with the session as salt; info names the component and both certificates.

    Security: an eavesdropper or a third party lacks the shared secret; nobody can put a key of his own in its
    place, as public keys travel on connections whose both ends are verified. Nothing is kept after a session.
    """

    def __init__(self, rank: int, session: str, fingerprints: Sequence[str]) -> None:
        self._rank = rank
        self._session = session
        self._fingerprints = tuple(fingerprints)
        self._private = X25519PrivateKey.generate()

    @property
    def public(self) -> str:
        """What the two others need, in hexadecimal."""
        return self._private.public_key().public_bytes_raw().hex()

    def pair_keys(self, public: Mapping[int, str]) -> PairKeys:
        """The keys with both others, from their public ones by rank. LinkError if one is malformed."""
        before, after = (self._rank - 1) % 3, (self._rank + 1) % 3
        return PairKeys(
            self._rank,
            self._key(self._rank, before, public[before]),
            self._key(after, after, public[after]),
        )

    def _key(self, component: int, peer: int, public: str) -> bytes:
        try:
            secret = self._private.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(public)))
        except (ValueError, TypeError) as error:
            raise LinkError(f"party {peer} sent no valid X25519 key: {error}") from None
        holders = (self._fingerprints[(component - 1) % 3], self._fingerprints[component])
        info = "|".join(("ditto pair key", str(component), *holders)).encode()
        return HKDF(hashes.SHA256(), KEY_BYTES, self._session.encode(), info).derive(secret)
