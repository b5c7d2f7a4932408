"""What one of nanoexec's certificates says, and whether it holds today."""

from datetime import UTC, datetime
from pathlib import PurePath

from cryptography import x509
from cryptography.x509.oid import NameOID

from nanoexec.errors import IdentityError
from nanoexec.model import Value


class CertificateInfo(Value, frozen=True):
    """A certificate for reading: whose it is, its id (``hub`` for the hub's), and its dates (seconds, epoch, UTC).

    A CA names no machine: its ``name`` is empty.
    """

    name: str
    key: str
    not_before: float
    not_after: float


def describe(certificate: str) -> CertificateInfo:
    """What the PEM text of one certificate says. Raises `IdentityError` when it cannot be read."""
    try:
        parsed = x509.load_pem_x509_certificate(certificate.encode())
        names = _dns_names(parsed)
        keys = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except Exception:  # noqa: BLE001 - for damaged bytes the library raises a dozen classes, by version others
        raise IdentityError("not a certificate in PEM that can be read") from None
    return CertificateInfo(
        name=names[0] if names else "",
        key=str(keys[0].value) if keys else "",
        not_before=_seconds(parsed, "not_valid_before"),
        not_after=_seconds(parsed, "not_valid_after"),
    )


def check_validity(info: CertificateInfo, now: float, file: PurePath) -> None:
    """Raises `IdentityError` naming ``file`` when its certificate has expired or does not hold yet."""
    if now > info.not_after:
        raise IdentityError(
            f"{file}: this certificate expired {_date(info.not_after)}, and the clock says {_date(now)}: "
            "a node gets a new one with `nanoexec agent join`"
        )
    if now < info.not_before:
        raise IdentityError(
            f"{file}: this certificate is not valid before {_date(info.not_before)}, and the clock says {_date(now)}: "
            "set the clock"
        )


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


def _seconds(certificate: x509.Certificate, which: str) -> float:
    # cryptography 42 renamed these and warns about the old names, which are all that 38 has.
    aware = getattr(certificate, f"{which}_utc", None)
    moment: datetime = aware or getattr(certificate, which).replace(tzinfo=UTC)
    return moment.timestamp()


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
