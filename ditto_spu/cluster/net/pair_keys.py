"""Derives the pairwise keys of one session.

Each pair of parties runs ephemeral X25519 over its authenticated connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ditto_kernels.protocol.link import LinkError
from ditto_kernels.protocol.randomness import KEY_BYTES, PairKeys


class KeyExchange:
    """Runs one party's side of the key exchange, with a private key that is fresh for each session.

    The private key lives only while the session is being opened. Key j belongs to parties j and j - 1, which
    hold component j. It is HKDF-SHA256 of the two parties' X25519 secret. The session's name is the salt, and
    the info string names the component and both certificates.

    Security: an eavesdropper, or the third party, does not have the shared secret. Nobody can substitute a
    key, because public keys travel on connections whose both ends are verified. No key is kept after the
    session.
    """

    def __init__(self, rank: int, session: str, fingerprints: Sequence[str]) -> None:
        self._rank = rank
        self._session = session
        self._fingerprints = tuple(fingerprints)
        self._private = X25519PrivateKey.generate()

    @property
    def public(self) -> str:
        """Return the public key for the two other parties, in hexadecimal."""
        return self._private.public_key().public_bytes_raw().hex()

    def pair_keys(self, public: Mapping[int, str]) -> PairKeys:
        """Derive the keys that this party shares with each of the others.

        `public` maps the rank of each other party to its public key in hexadecimal. Raises LinkError if a key
        is malformed.
        """
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
