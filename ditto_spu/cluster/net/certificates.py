"""Makes a cluster's certificates: one authority, and one certificate and key per party and client."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_SKEW = datetime.timedelta(minutes=5)  # certificates start this early, as the clocks of hosts differ


@dataclass(frozen=True)
class Authority:
    """Signs the certificates of a cluster. Only `cluster init` uses its key, which is not kept."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def issue(self, name: str, days: float = 365.0) -> tuple[bytes, bytes]:
        """Return a certificate for `name` and its fresh key, both as PEM.

        The certificate is valid for `days`. With a negative number it has expired already.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(name, self.certificate.subject, key, days)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM), _private(key)

    def pem(self) -> bytes:
        """Return the authority's own certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def create_authority(name: str, days: float = 3650.0) -> Authority:
    """Return a new authority with a key of its own, whose certificate is valid for `days`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(name, subject, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def fingerprint(certificate: bytes) -> str:
    """Return the SHA-256 of a certificate in hexadecimal. The certificate is PEM or DER."""
    pem = certificate.startswith(b"-----")
    loaded = x509.load_pem_x509_certificate if pem else x509.load_der_x509_certificate
    return loaded(certificate).fingerprint(hashes.SHA256()).hex()


def days_left(certificate: bytes) -> float:
    """Return for how many days a PEM certificate is valid yet. The number is negative if it has expired."""
    end = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    return (end - datetime.datetime.now(datetime.timezone.utc)) / datetime.timedelta(days=1)


def write_identity(folder: Path, name: str, certificate: bytes, key: bytes) -> None:
    """Write `name.crt`, and `name.key`, which only the file's owner may read."""
    (folder / f"{name}.crt").write_bytes(certificate)
    with open(os.open(folder / f"{name}.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key)


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    start = min(end - datetime.timedelta(days=1), datetime.datetime.now(datetime.timezone.utc) - _SKEW)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
