"""Certificates for the TLS tests, made on the spot."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """PEM files of a certificate and its key."""

    cert: str
    key: str


class Authority:
    """A certificate authority of its own; ``cert`` is the PEM file to trust, ``own`` the same with its key."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(self._name, self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.cert = _write(folder / f"{name.replace(' ', '-')}.pem", certificate)
        self.own = _pair(self.cert, self._key)

    def issue(
        self, host: str = "127.0.0.1", *, expired: bool = False, client: bool = False, self_signed: bool = False
    ) -> Pair:
        """Return a certificate for a server (or a client)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        certificate = (
            _builder(subject, subject if self_signed else self._name, key, age=3 * DAY if expired else DAY)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(key if self_signed else self._key, hashes.SHA256())
        )
        stem = f"{'client' if client else 'server'}-{certificate.serial_number:x}"
        return _pair(_write(self._folder / f"{stem}.pem", certificate), key)


def server_context(pair: Pair, *, client_authority: Authority | None = None) -> ssl.SSLContext:
    """Return the TLS settings of a server; with an authority it demands client certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if client_authority is not None:
        context.load_verify_locations(client_authority.cert)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, age: dt.timedelta = DAY
) -> x509.CertificateBuilder:
    start = dt.datetime.now(dt.UTC) - age
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + 2 * DAY)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pair(cert: str, key: ec.EllipticCurvePrivateKey) -> Pair:
    key_file = Path(cert).with_suffix(".key")
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Pair(cert, str(key_file))


def _write(path: Path, certificate: x509.Certificate) -> str:
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return str(path)
