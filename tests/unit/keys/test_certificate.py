import contextlib
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from nanoexec.errors import IdentityError
from nanoexec.keys.ca import make_ca, make_hub_certificate, make_node_key, make_request, sign_request
from nanoexec.keys.certificate import CertificateInfo, check_validity, describe

pytestmark = pytest.mark.node

NOW = datetime(2030, 5, 17, 12, tzinfo=UTC).timestamp()
DAY = 86400
FILE = Path("/var/lib/nanoexec/agent/node.crt")
INFO = CertificateInfo(name="web1", key="0" * 16, not_before=NOW - DAY, not_after=NOW + DAY)


def test_a_node_certificate_is_described_by_name_id_and_dates() -> None:
    ca = make_ca("hub", NOW)
    request = make_request(make_node_key(), "web1")
    pem = sign_request(ca, request, name="web1", key_id="0123456789abcdef", now=NOW, days=2)
    assert describe(pem) == CertificateInfo("web1", "0123456789abcdef", NOW - DAY, NOW + 2 * DAY)


def test_a_hub_certificate_is_described_with_the_id_hub_and_a_ca_without_name() -> None:
    ca = make_ca("hub.example.net", NOW)
    hub = describe(make_hub_certificate(ca, "hub.example.net", NOW).certificate)
    assert (hub.name, hub.key) == ("hub.example.net", "hub")
    assert describe(ca.certificate).name == ""


def test_dates_do_not_depend_on_the_time_zone_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    pem = make_ca("hub", NOW).certificate
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        assert describe(pem).not_before == NOW - DAY
        assert describe(make_ca("hub", NOW).certificate).not_before == NOW - DAY
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_foreign_certificate_without_names_can_be_described() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    start = datetime.fromtimestamp(NOW, UTC)
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([])).serial_number(1)
    builder = builder.not_valid_before(start).not_valid_after(start + timedelta(1)).public_key(key.public_key())
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    assert describe(pem) == CertificateInfo("", "", NOW, NOW + DAY)


@pytest.mark.parametrize(
    "pem", ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "\udcff"]
)
def test_what_is_not_a_certificate_is_said(pem: str) -> None:
    with pytest.raises(IdentityError, match="not a certificate in PEM"):
        describe(pem)


PEM = make_ca("hub", NOW).certificate


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_certificate_is_described_or_refused(place: int, byte: int) -> None:
    """Nothing else comes out: not one of the many classes of the library."""
    der = bytearray(ssl.PEM_cert_to_DER_cert(PEM))
    der[place % len(der)] = byte
    with contextlib.suppress(IdentityError):
        assert isinstance(describe(ssl.DER_cert_to_PEM_cert(bytes(der))), CertificateInfo)


def test_a_certificate_of_another_version_is_refused() -> None:
    version = b"\xa0\x03\x02\x01"
    der = ssl.PEM_cert_to_DER_cert(PEM)
    assert version + b"\x02" in der
    with pytest.raises(IdentityError, match="not a certificate in PEM"):
        describe(ssl.DER_cert_to_PEM_cert(der.replace(version + b"\x02", version + b"\x07")))


def test_a_certificate_holds_from_its_first_to_its_last_second() -> None:
    for now in (INFO.not_before, NOW, INFO.not_after):
        check_validity(INFO, now, FILE)


def test_an_expired_certificate_is_named_with_its_file_and_both_dates() -> None:
    with pytest.raises(IdentityError) as caught:
        check_validity(INFO, NOW + DAY + 1, FILE)
    assert str(caught.value) == (
        "/var/lib/nanoexec/agent/node.crt: this certificate expired 2030-05-18 12:00 UTC, and the clock says "
        "2030-05-18 12:00 UTC: a node gets a new one with `nanoexec agent join`"
    )


def test_a_certificate_from_the_future_is_named_with_its_file_and_blames_the_clock() -> None:
    with pytest.raises(IdentityError) as caught:
        check_validity(INFO, 0, FILE)
    assert str(caught.value) == (
        "/var/lib/nanoexec/agent/node.crt: this certificate is not valid before 2030-05-16 12:00 UTC, and the clock "
        "says 1970-01-01 00:00 UTC: set the clock"
    )
