import base64
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from nanoexec.errors import IdentityError
from nanoexec.keys.ca import make_ca, make_hub_certificate, make_node_key, make_request, sign_request
from nanoexec.keys.certificate import describe

pytestmark = pytest.mark.node

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
NOW = 1_800_000_000.7
DAY = 86400
KEY_ID = "0123456789abcdef"
CA = make_ca("hub.example.net", NOW)
NODE_KEY = make_node_key()
REQUEST = make_request(NODE_KEY, "web1.example.net")
openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")


def signed(
    request: str = REQUEST, *, name: str = "web1.example.net", key_id: str = KEY_ID, now: float = NOW, days: int = 3650
) -> str:
    return sign_request(CA, request, name=name, key_id=key_id, now=now, days=days)


def parsed(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def public_pem(holder: x509.Certificate | ec.EllipticCurvePrivateKey) -> bytes:
    return holder.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def request_by(key: PrivateKey, subject: str = "anything", *extensions: x509.ExtensionType) -> str:
    common_name = x509.NameAttribute(NameOID.COMMON_NAME, subject)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([common_name]))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_a_node_certificate_has_the_key_id_as_common_name_and_the_node_as_dns_name() -> None:
    certificate = parsed(signed())
    assert certificate.subject.rfc4514_string() == f"CN={KEY_ID}"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("web1.example.net")]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_hub_certificate_has_the_hub_as_dns_name_and_serves_only() -> None:
    certificate = parsed(make_hub_certificate(CA, "hub.example.net", NOW).certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("hub.example.net")]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_the_certificate_holds_the_public_key_of_the_request() -> None:
    key = serialization.load_pem_private_key(NODE_KEY.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert public_pem(parsed(signed())) == public_pem(key)


def test_what_a_request_says_of_itself_is_ignored() -> None:
    request = request_by(
        ec.generate_private_key(ec.SECP256R1()),
        "hub",
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectAlternativeName([x509.DNSName("hub.example.net")]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    )
    greedy, honest = parsed(signed(request)), parsed(signed())
    assert greedy.subject == honest.subject
    keys = {x509.SubjectKeyIdentifier.oid}  # the one extension that follows the key
    assert [e for e in greedy.extensions if e.oid not in keys] == [e for e in honest.extensions if e.oid not in keys]


def test_only_the_ca_may_sign_and_nothing_below_it() -> None:
    ca = parsed(CA.certificate).extensions.get_extension_for_class(x509.BasicConstraints)
    node = parsed(signed()).extensions.get_extension_for_class(x509.BasicConstraints)
    assert ca.critical
    assert (ca.value.ca, ca.value.path_length) == (True, 0)
    assert (node.critical, node.value.ca) == (True, False)


def test_certificates_last_ten_years_and_the_ca_twenty() -> None:
    whole = int(NOW)
    ca, node = describe(CA.certificate), describe(signed())
    assert (ca.not_before, ca.not_after) == (whole - DAY, whole + 20 * 365 * DAY)
    assert (node.not_before, node.not_after) == (whole - DAY, whole + 10 * 365 * DAY)
    assert describe(make_hub_certificate(CA, "hub.example.net", NOW, days=30).certificate).not_after == whole + 30 * DAY
    assert describe(signed(days=30)).not_after == whole + 30 * DAY


def test_a_certificate_never_outlives_its_ca() -> None:
    late = NOW + 15 * 365 * DAY
    assert describe(signed(now=late)).not_after == describe(CA.certificate).not_after


def test_an_expired_ca_signs_nothing_and_says_when_it_expired() -> None:
    until = describe(CA.certificate).not_after
    day = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%d")
    with pytest.raises(IdentityError, match=f"the hub's CA expired on {day}: it cannot sign"):
        signed(now=until)
    signed(now=until - 1)


@pytest.mark.parametrize(
    "make", [lambda: ec.generate_private_key(ec.SECP384R1()), lambda: rsa.generate_private_key(65537, 2048)]
)
def test_a_request_with_another_kind_of_key_is_refused(make: Callable[[], PrivateKey]) -> None:
    with pytest.raises(IdentityError, match=r"^certificate request: the key must be EC P-256$"):
        signed(request_by(make()))


def test_a_request_that_was_not_made_with_its_private_key_is_refused() -> None:
    der = bytearray(x509.load_pem_x509_csr(REQUEST.encode()).public_bytes(serialization.Encoding.DER))
    at = der.index(b"web1.example.net")
    der[at : at + 4] = b"web2"
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(IdentityError, match="nothing proves who has the private key"):
        signed(forged)


@pytest.mark.parametrize(
    "request_text",
    ["", "hello", CA.certificate, REQUEST[:200], "\udcff", REQUEST.replace("M", "é")],
    ids=["nothing", "a word", "a certificate", "cut short", "a surrogate", "not ASCII"],
)
def test_what_is_not_a_request_is_refused_in_one_line(request_text: str) -> None:
    with pytest.raises(IdentityError, match=r"\Acertificate request: not a PKCS #10 request in PEM [^\n]*\Z"):
        signed(request_text)


def test_an_oversized_request_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(IdentityError, match="certificate request of 4097 characters: at most 4096"):
        signed(REQUEST.ljust(4097))


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
@example(place=8, byte=1)  # the version
def test_a_damaged_request_is_refused_or_still_has_the_proven_key(place: int, byte: int) -> None:
    der = bytearray(x509.load_pem_x509_csr(REQUEST.encode()).public_bytes(serialization.Encoding.DER))
    der[place % len(der)] = byte
    try:
        certificate = signed(pem_of_request(bytes(der)))
    except IdentityError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both ways out are right, and each has its own assertion
    else:
        assert public_pem(parsed(certificate)) == public_pem(parsed(signed()))


def pem_of_request(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize(
    "name", ["", "Web1", "*.example.net", "web1\n", "web1 evil", "-web", "a" * 254, "wéb", "web1\0"]
)
def test_a_name_that_is_not_a_nodes_is_never_signed(name: str) -> None:
    for attempt in (lambda: signed(name=name), lambda: make_ca(name, NOW), lambda: make_hub_certificate(CA, name, NOW)):
        with pytest.raises(IdentityError, match="cannot be the name in a certificate"):
            attempt()
    with pytest.raises(IdentityError, match="cannot be the name in a certificate"):
        make_request(NODE_KEY, name)


@pytest.mark.parametrize("key_id", ["", "hub", KEY_ID + "0", KEY_ID.upper(), KEY_ID[:-1] + "u", KEY_ID[:-1] + "\n"])
def test_a_key_id_that_is_not_one_is_never_signed(key_id: str) -> None:
    with pytest.raises(IdentityError, match="cannot be the certificate id in a certificate"):
        signed(key_id=key_id)


def test_the_longest_name_can_have_a_ca_a_hub_and_a_node() -> None:
    name = "a" * 253
    ca = make_ca(name, NOW)
    assert describe(make_hub_certificate(ca, name, NOW).certificate).name == name
    request = make_request(NODE_KEY, name)
    assert describe(sign_request(ca, request, name=name, key_id=KEY_ID, now=NOW)).name == name


def test_keys_and_serial_numbers_are_new_each_time() -> None:
    assert make_node_key() != make_node_key()
    assert parsed(signed()).serial_number != parsed(signed()).serial_number
    assert make_ca("hub", NOW).key != make_ca("hub", NOW).key


@pytest.mark.parametrize("key", ["", "hello", CA.certificate], ids=["nothing", "a word", "a certificate"])
def test_a_node_key_that_cannot_be_read_is_said(key: str) -> None:
    with pytest.raises(IdentityError, match="the node's key: not a private key in PEM"):
        make_request(key, "web1")


def test_an_authority_does_not_show_its_key() -> None:
    assert "PRIVATE" not in repr(CA)


@openssl
@pytest.mark.parametrize("purpose", ["sslclient", "sslserver"])
def test_openssl_accepts_each_certificate_for_its_own_purpose_under_strict_rules(tmp_path: Path, purpose: str) -> None:
    now = time.time()
    ca = make_ca("hub.example.net", now)
    hub = make_hub_certificate(ca, "hub.example.net", now).certificate
    node = sign_request(ca, REQUEST, name="web1", key_id=KEY_ID, now=now)
    (tmp_path / "ca").write_text(ca.certificate)
    own, other = (node, hub) if purpose == "sslclient" else (hub, node)
    for certificate, right in ((own, True), (other, False)):
        (tmp_path / "leaf").write_text(certificate)
        command = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-purpose", purpose, "-CAfile", "ca", "leaf"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is right, done.stdout + done.stderr


@openssl
def test_openssl_reads_what_was_meant() -> None:
    command = ["openssl", "x509", "-noout", "-text"]
    text = subprocess.run(command, input=signed(), capture_output=True, text=True, check=True).stdout
    assert re.search(r"Issuer: CN ?= ?nanoexec CA hub\.example\.net\n", text)
    assert re.search(rf"Subject: CN ?= ?{KEY_ID}\n", text)
    assert "NIST CURVE: P-256" in text
    assert re.search(r"Extended Key Usage: *\n +TLS Web Client Authentication\n", text)
    assert re.search(r"Subject Alternative Name: *\n +DNS:web1\.example\.net\n", text)
    assert re.search(r"Key Usage: critical\n +Digital Signature\n", text)


@openssl
def test_a_request_made_by_openssl_is_signed(tmp_path: Path) -> None:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command = ["openssl", "req", "-new", *curve, "-nodes", "-subj", "/CN=anything", "-keyout", str(tmp_path / "key")]
    request = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert describe(signed(request)).name == "web1.example.net"
