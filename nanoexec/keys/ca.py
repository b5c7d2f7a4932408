"""The hub's certificate authority: pure functions from PEM text to PEM text.

Every key is EC P-256, which TLS stacks old and new agree on. A node's certificate has the certificate's id as common
name and the node's name as DNS name; the hub's has the hub's name. Extended key usage keeps the roles apart: a node
cannot pose as the hub, whatever its name. A certificate is good for ten years, because the hub's roster, not a date,
decides who is let in. All are valid from a day before they were made: a clock somewhat off still works.

Times are seconds since the epoch, UTC. Profile: RFC 5280, strictly, as OpenSSL's ``X509_V_FLAG_X509_STRICT`` has it.
"""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from nanoexec.errors import IdentityError
from nanoexec.keys.certificate import describe
from nanoexec.keys.credentials import Authority
from nanoexec.model import Credentials, Identifier, NodeName

CA_DAYS: Final = 20 * 365
CERTIFICATE_DAYS: Final = 10 * 365
HUB_ID: Final = "hub"  # the hub's common name: no node's, whose ids are longer
MAX_REQUEST: Final = 4096  # characters; an honest request has about 450
_DAY: Final = 86400.0
_COMMON_NAME: Final = 64  # characters, RFC 5280 appendix A.1; a node's name may be longer, so it is never one


def make_ca(hub_name: str, now: float) -> Authority:
    """A new authority for one hub, good for twenty years."""
    _check_name(hub_name)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _common_name(f"nanoexec CA {hub_name}"[:_COMMON_NAME])
    builder = _begin(subject, subject, key.public_key(), key.public_key(), until=now + CA_DAYS * _DAY, now=now)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    return Authority(certificate=_pem(builder.sign(key, hashes.SHA256())), key=_key_pem(key))


def make_hub_certificate(ca: Authority, hub_name: str, now: float, *, days: int = CERTIFICATE_DAYS) -> Credentials:
    """A new key and certificate for the hub. Raises `IdentityError`."""
    _check_name(hub_name)
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName(hub_name)]
    if address := _address(hub_name):
        # A hub may be named by its address. OpenSSL then looks at addresses only, Mbed TLS at both.
        names.append(x509.IPAddress(address))
    certificate = _issue(ca, key.public_key(), HUB_ID, names, ExtendedKeyUsageOID.SERVER_AUTH, now=now, days=days)
    return Credentials(ca=ca.certificate, certificate=certificate, key=_key_pem(key))


def make_node_key() -> str:
    """A new private key for a node, where the node is: it never travels."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def make_request(key: str, name: str) -> str:
    """What a node asks to have signed (PKCS #10). Raises `IdentityError` for a key that is not EC P-256."""
    _check_name(name)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
    return _pem(builder.sign(_load_key(key, "the node's key"), hashes.SHA256()))


def sign_request(
    ca: Authority, request: str, *, name: str, key_id: str, now: float, days: int = CERTIFICATE_DAYS
) -> str:
    """A node's certificate: ``key_id`` as common name, ``name`` as DNS name, the request's public key.

    Nothing else of the request counts, neither subject nor extensions. Its signature proves that whoever asks has the
    private key. Raises `IdentityError`.
    """
    _check_name(name)
    _check(key_id, Identifier, "certificate id", "16 characters of nanoexec's alphabet")
    public = _requested_key(request)
    return _issue(ca, public, key_id, [x509.DNSName(name)], ExtendedKeyUsageOID.CLIENT_AUTH, now=now, days=days)


def _requested_key(request: str) -> ec.EllipticCurvePublicKey:
    if len(request) > MAX_REQUEST:
        raise IdentityError(f"certificate request of {len(request)} characters: at most {MAX_REQUEST} are accepted")
    try:
        csr = x509.load_pem_x509_csr(request.encode())
        public, proven = csr.public_key(), csr.is_signature_valid
    except Exception:  # noqa: BLE001 - for a stranger's bytes the library raises a dozen classes, by version others
        raise IdentityError("certificate request: not a PKCS #10 request in PEM that can be read") from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise IdentityError("certificate request: the key must be EC P-256")
    if not proven:
        raise IdentityError("certificate request: its signature is wrong, so nothing proves who has the private key")
    return public


def _issue(
    ca: Authority,
    public: ec.EllipticCurvePublicKey,
    common_name: str,
    names: Sequence[x509.GeneralName],
    usage: ObjectIdentifier,
    *,
    now: float,
    days: int,
) -> str:
    ca_ends = describe(ca.certificate).not_after
    if now >= ca_ends:
        raise IdentityError(f"the hub's CA expired on {datetime.fromtimestamp(ca_ends, UTC):%Y-%m-%d}: it cannot sign")
    issuer = x509.load_pem_x509_certificate(ca.certificate.encode()).subject
    key = _load_key(ca.key, "the CA's key")
    # A certificate that outlives its CA would claim a day on which nobody believes it any more.
    until = min(now + days * _DAY, ca_ends)
    builder = _begin(_common_name(common_name), issuer, public, key.public_key(), until=until, now=now)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _pem(builder.sign(key, hashes.SHA256()))


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    issuer_public: ec.EllipticCurvePublicKey,
    *,
    now: float,
    until: float,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(now - _DAY))
        .not_valid_after(_moment(until))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)  # certificates know whole seconds only


def _check_name(name: str) -> None:
    _check(name, NodeName, "name", "lower-case letters, digits, dots, hyphens and underscores")


def _check(text: str, wanted: object, what: str, expected: str) -> None:
    # What is signed here is believed everywhere, so it is checked here too, whoever checked it before.
    try:
        msgspec.convert(text, wanted)
    except msgspec.ValidationError:
        raise IdentityError(f"{text[:64]!r} cannot be the {what} in a certificate: expected {expected}") from None


def _load_key(pem: str, what: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise IdentityError(f"{what}: not a private key in PEM without a passphrase") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError(f"{what}: it must be EC P-256")
    return key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _pem(signed: x509.Certificate | x509.CertificateSigningRequest) -> str:
    return signed.public_bytes(serialization.Encoding.PEM).decode()
