"""Key and certificate of either side: each is looked at by itself, so that each fault is named at its own stage.

A file that only others may read is no fault: whoever looks is told so.
"""

from collections.abc import Callable
from pathlib import Path

from nanoexec.doctor import finding
from nanoexec.doctor.finding import Finding, Level, Side
from nanoexec.errors import IdentityError
from nanoexec.files import open_regular, read_regular
from nanoexec.keys.credentials import read_key
from nanoexec.model import Credentials


def identity(
    side: Side, key: Path, certificate: Path, name: str | None, now: float, *, load: Callable[[], Credentials]
) -> tuple[Finding, Finding, Credentials | None]:
    """What can be said of the key, of the certificate (which should be for ``name``), and both if they are of use.

    ``load`` reads both and the CA's certificate, and raises `IdentityError` for what does not belong together.
    """
    about_key = hidden(side, "key", key) or _key(side, key)
    about_certificate = hidden(side, "certificate", certificate) or _certificate(side, certificate, name, now)
    if {Level.FAIL, Level.SKIP} & {about_key.level, about_certificate.level}:
        return about_key, about_certificate, None
    try:
        return about_key, about_certificate, load()
    except IdentityError as error:
        return side.fail("key", str(error)), about_certificate, None


def hidden(side: Side, stage: str, file: Path) -> Finding | None:
    """The finding about a file that this user may not read; None for any other."""
    try:
        open_regular(file).close()
    except PermissionError:
        return side.hidden(stage, file)
    except OSError:
        pass  # the stage itself says it better
    return None


def _key(side: Side, file: Path) -> Finding:
    try:
        read_key(file, _advice(side))
    except IdentityError as error:
        return side.fail("key", str(error))
    return side.ok("key", f"{file}: only its owner can read it")


def _certificate(side: Side, file: Path, name: str | None, now: float) -> Finding:
    from nanoexec.keys.certificate import check_validity, describe  # 25 MB

    try:
        info = describe(read_regular(file).decode("ascii", "replace"))
    except IdentityError as error:
        return side.fail("certificate", f"{file}: {error}; {_advice(side)}")
    except OSError as error:
        what = f"{file}: cannot read the {side.name}'s certificate: {error.strerror or error}"
        return side.fail("certificate", f"{what}; {_advice(side)}")
    try:
        check_validity(info, now, file)
    except IdentityError as error:
        return side.fail("certificate", str(error))
    return finding.certificate(side, info.name, name or info.name, info.not_after, now)


def _advice(side: Side) -> str:
    return f"`nanoexec {'hub init' if side == finding.HUB else 'agent join'}` makes it"
