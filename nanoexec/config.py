"""The configuration files, decoded strictly, and where everything lies under a root directory.

Pure: bytes in, values out. Every key of ``hub.toml`` and ``agent.toml`` has a default: these two are the
administrator's, and no program writes them once they are there. What joining decides is in ``joined.toml``. A fault
names the file and the key.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePath
from typing import Annotated, Any, Final, TypeVar

import msgspec

from nanoexec.errors import ConfigError, UsageError
from nanoexec.model import NodeName, Value

HIGHEST_PORT: Final = 65535
Port = Annotated[int, msgspec.Meta(ge=0, le=HIGHEST_PORT)]
Host = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9:._-]{1,255}\Z")]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]
Days = Annotated[int, msgspec.Meta(ge=1, le=3650)]
UserName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9._-]{0,31}\Z")]


class HubConfig(Value, frozen=True):
    """``hub.toml``.

    ``name`` is what nodes check the hub's certificate against: the one in the certificate, and nothing else may be set.
    A port 0 takes any free one. ``groups`` are node sets by name, for ``@name`` in a target. ``operators`` is the Unix
    group that may use the control socket besides the hub's own user and root.
    """

    name: NodeName | None = None
    bind: Host = "0.0.0.0"  # noqa: S104 - a hub is there to be reached; client certificates keep others out
    publish_port: Port = 4444
    report_port: Port = 4445
    join_port: Port = 4446
    beacon_interval: Seconds = 15.0
    groups: dict[str, str] = msgspec.field(default_factory=dict)
    operators: UserName | None = None
    history_days: Days = 90

    @property
    def here(self) -> str:
        """The address at which the hub is reached from its own machine."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.bind, self.bind)  # noqa: S104 - read here, not bound


class Joined(Value, frozen=True):
    """``joined.toml``: what joining decides, written by ``nanoexec agent join`` and by nothing else.

    The keys are those of `AgentConfig`. No other may stand here: what a node lets anybody do is not for a hub to say.
    """

    hub: Host
    hub_name: NodeName
    publish_port: Port
    report_port: Port
    name: NodeName


class AgentConfig(Value, frozen=True):
    """``agent.toml``, over what ``joined.toml`` has; read by the agent and by the runner.

    ``hub`` is the address to dial, None on a node that has not joined; ``hub_name`` is the name that the hub's
    certificate must have (the same unless set), ``name`` this node's (its FQDN unless set). ``user`` is
    the account of the agent: besides root the only one that the runner listens to. ``signers`` are Ed25519 public keys
    (base64); with any set, only triggers signed by one of them run. After ``hub_silent_after`` seconds without a
    beacon, fallback schedules with the policy ``hub-silent`` run.
    """

    hub: Host | None = None
    hub_name: NodeName | None = None
    publish_port: Port = 4444
    report_port: Port = 4445
    name: NodeName | None = None
    user: UserName = "nanoexec"
    allow_exec: bool = False
    exec_user: UserName = "root"
    signers: tuple[str, ...] = ()
    output_limit: Annotated[int, msgspec.Meta(ge=1024, le=512 << 10)] = 64 << 10
    journal_days: Days = 90
    hub_silent_after: Seconds = 600.0
    runner_idle: Seconds = 30.0


class Paths(msgspec.Struct, frozen=True, dict=True):
    """Where things are. ``root`` is ``/`` on a real machine and a scratch directory in the demo and the tests.

    Each is worked out once: a run, and an agent that looks at files every second, would pay for it each time.
    """

    root: Path = Path("/")
    config: Path | None = None

    @cached_property
    def etc(self) -> Path:
        return self.root / "etc/nanoexec"

    @cached_property
    def hub_config(self) -> Path:
        return self.config or self.etc / "hub.toml"

    @cached_property
    def agent_config(self) -> Path:
        return self.config or self.etc / "agent.toml"

    @cached_property
    def joined(self) -> Path:
        """What joining has decided, beside the agent's configuration."""
        return self.agent_config.with_name("joined.toml")

    @cached_property
    def actions(self) -> Path:
        return self.etc / "actions.d"

    @cached_property
    def hub_state(self) -> Path:
        return self.root / "var/lib/nanoexec/hub"

    @cached_property
    def hub_store(self) -> Path:
        return self.hub_state / "hub.db"

    @cached_property
    def agent_state(self) -> Path:
        return self.root / "var/lib/nanoexec/agent"

    @cached_property
    def beacon(self) -> Path:
        """Its modification time is when the agent last heard the hub."""
        return self.agent_state / "beacon"

    @cached_property
    def link(self) -> Path:
        """Whether the agent's link is up, as it wrote when that last changed."""
        return self.agent_state / "link"

    @cached_property
    def cursor(self) -> Path:
        """How far the agent has relayed the journal."""
        return self.agent_state / "cursor"

    @cached_property
    def journal(self) -> Path:
        return self.root / "var/lib/nanoexec/journal/journal.db"

    @cached_property
    def crontabs(self) -> Path:
        """Backups of crontabs, and what is known of the lines taken over."""
        return self.root / "var/lib/nanoexec/crontabs"

    @cached_property
    def run(self) -> Path:
        return self.root / "run/nanoexec"

    @cached_property
    def control_socket(self) -> Path:
        """In a directory of the hub's own user: the one above is root's, or the agent could take the runner's place."""
        return self.run / "hub/control.sock"

    @cached_property
    def runner_socket(self) -> Path:
        return self.run / "runner.sock"

    @cached_property
    def locks(self) -> Path:
        return self.run / "locks"


def daemon_paths(arguments: Sequence[str]) -> Paths:
    """``[--root DIR] [--config FILE]``, all that a daemon is told on its command line. Raises `UsageError`."""
    found: dict[str, Path] = {}
    words = iter(arguments)
    for word in words:
        value = next(words, None)
        if word not in ("--root", "--config") or not value:
            raise UsageError(f"unexpected {word!r}: only --root DIR and --config FILE are understood")
        found[word.removeprefix("--")] = Path(value).absolute()
    return Paths(**found)


_T = TypeVar("_T")


def parse_hub(data: bytes, file: PurePath) -> HubConfig:
    """``hub.toml``. Raises `ConfigError`."""
    return convert(parse_toml(data, file), HubConfig, file)


def parse_agent(data: bytes, file: PurePath, joined: Joined | None = None) -> AgentConfig:
    """``agent.toml``; where it does not set a key, ``joined`` does. Raises `ConfigError`."""
    own = parse_toml(data, file)
    config = convert(own, AgentConfig, file)
    if joined is None:
        return config
    decided = {key: value for key, value in msgspec.structs.asdict(joined).items() if key not in own}
    return msgspec.structs.replace(config, **decided)


def parse_joined(data: bytes, file: PurePath) -> Joined:
    """``joined.toml``. Raises `ConfigError`."""
    return convert(parse_toml(data, file), Joined, file)


def format_joined(joined: Joined) -> bytes:
    """``joined.toml``, as `parse_joined` reads it. None of its values can hold what TOML would want escaped."""
    values = msgspec.structs.asdict(joined).items()
    lines = [f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in values]
    head = "# Written by `nanoexec agent join`, anew each time. What agent.toml says wins over it."
    return "\n".join([head, *lines, ""]).encode()


def parse_toml(data: bytes, file: PurePath) -> dict[str, Any]:
    """A TOML document. Raises `ConfigError` with file and line."""
    import tomllib  # noqa: PLC0415 - most commands read no file, and this takes 2 ms

    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 at byte {error.start}") from None
    except ValueError as error:  # TOMLDecodeError, and what int() says of a number with thousands of digits
        raise ConfigError(f"{file}: not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{file}: not valid TOML: nested too deeply") from None


def convert(document: dict[str, Any], wanted: type[_T], file: PurePath) -> _T:
    """A parsed document as a value. Raises `ConfigError` naming file and key."""
    try:
        return msgspec.convert(document, wanted)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: {_fault(str(error))}") from None


def _fault(text: str) -> str:
    """What msgspec says, with the key first: ``publish_port: expected int, got str``."""
    text = text if text.isprintable() else text.encode("unicode_escape").decode()  # TOML allows any key in quotes
    what, _, where = text.partition(" - at `")
    key = where.rstrip("`").removeprefix("$").removeprefix(".")
    if "unknown field" in what:
        name = what.split("`")[1]
        return f"unknown key {f'{key}.{name}' if key else name}"
    if "missing required field" in what:
        name = what.split("`")[1]
        return f"key {f'{key}.{name}' if key else name} is required"
    what = what.replace(" | null", "")  # which TOML does not have
    return f"{key or 'document'}: {what[:1].lower()}{what[1:]}".replace("`", "")
