"""A scratch machine with crontabs."""

from pathlib import Path

from nanoexec.actions import Catalog
from nanoexec.catalog import read_catalog
from nanoexec.config import Paths
from nanoexec.crontab.plan import Plan, apply
from nanoexec.crontab.takeover import plan_adopt, plan_restore

RUN = "/usr/bin/nanoexec-run"
NOW = 1_700_000_000.0
SLAUGHTER = b"17 * * * * root /sbin/slaughter --delay=300\n"


class Machine:
    """``etc``, ``var`` and ``run`` under a directory, with the shipped actions."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = Paths(root=root)

    @property
    def catalog(self) -> Catalog:
        return read_catalog(self.paths)

    def write(self, name: str, data: bytes, mode: int = 0o644) -> Path:
        """A file under the root, such as ``etc/cron.d/slaughter``."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(mode)
        return file

    def user(self, name: str, data: bytes) -> Path:
        """A user's crontab."""
        return self.write(f"var/spool/cron/crontabs/{name}", data, 0o600)

    def adopt(
        self, *actions: str, now: float = NOW, shadow: bool = False, lines: tuple[tuple[str, int, str], ...] = ()
    ) -> Plan:
        """Adopt the lines of some actions, or of all when none is given."""
        plan = plan_adopt(
            self.paths,
            self.catalog,
            run=RUN,
            now=now,
            actions=actions,
            lines=lines,
            everything=not (actions or lines),
            shadow=shadow,
        )
        apply(self.paths, plan)
        return plan

    def restore(self, *actions: str, now: float = NOW) -> Plan:
        """Restore the lines of some actions, or of all when none is given."""
        plan = plan_restore(self.paths, now=now, actions=actions, everything=not actions)
        apply(self.paths, plan)
        return plan
