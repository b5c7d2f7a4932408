"""What is in the root file system of a test machine: one recipe per Debian suite and purpose."""

import hashlib
from typing import Final, Literal

import msgspec

from nanoexec.model import Value

Suite = Literal["bookworm", "trixie"]
Kind = Literal["node", "builder"]
SUITES: Final[tuple[Suite, ...]] = ("bookworm", "trixie")
KINDS: Final[tuple[Kind, ...]] = ("node", "builder")

# What the nanoexec packages depend on. Machines have no way out: a package that is not in the image cannot be had.
LIBRARIES: Final = (
    "adduser",
    "debconf",
    "python3",
    "python3-cffi-backend",
    "python3-clustershell",
    "python3-crontab",
    "python3-cryptography",
    "python3-mako",
    "python3-rich",
    "python3-sniffio",
    "python3-typer",
    "python3-typing-extensions",
)
LIBRARIES_OF_SUITE: Final[dict[Suite, tuple[str, ...]]] = {
    "bookworm": (),
    "trixie": ("python3-alembic", "python3-msgspec", "python3-sqlalchemy"),
}
MACHINE: Final = (
    "ca-certificates",
    "cfengine3",
    "cron",
    "dbus",
    "iproute2",
    "iputils-ping",
    "libfaketime",
    "libpam-systemd",
    "openssl",
    "procps",
    "puppet-agent",
    "strace",
    "systemd",
    "systemd-sysv",
)
BUILDER: Final = (
    "binutils",
    "build-essential",
    "debhelper",
    "dh-python",
    "fakeroot",
    "lintian",
    "po-debconf",
    "python3-all",
    "python3-docutils",
)
# Tools whose commands are tested, but whose own daemons would only take time from the tests; and timers that want the
# network.
DISABLED: Final = ("cfengine3.service", "puppet.service", "mcollective.service", "pxp-agent.service")
MASKED: Final = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
)


class Recipe(Value, frozen=True):
    """Everything that decides what is in an image."""

    suite: Suite
    kind: Kind
    packages: tuple[str, ...]
    disabled: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """What an image replaces when its recipe has changed."""
        return f"{self.suite}-{self.kind}"

    @property
    def name(self) -> str:
        """Of the image in the cache; another recipe, another name."""
        return f"{self.family}-{hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:12]}"


def recipe(suite: Suite, kind: Kind) -> Recipe:
    """The recipe for this purpose on this suite."""
    libraries = LIBRARIES + LIBRARIES_OF_SUITE[suite]
    if kind == "builder":
        return Recipe(suite=suite, kind=kind, packages=tuple(sorted(BUILDER + libraries)))
    packages = tuple(sorted(MACHINE + libraries))
    return Recipe(suite=suite, kind=kind, packages=packages, disabled=DISABLED, masked=MASKED)
