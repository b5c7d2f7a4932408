"""The values of an action: what a manifest says once it has been checked, and what is said of one that is wrong.

`nanoexec.actions.checking` makes them from a parsed document. They can be made directly too; then nobody has checked
their patterns and durations.
"""

import enum
from typing import Annotated, Final

import msgspec

from nanoexec.duration import parse_duration
from nanoexec.fallback import Policy
from nanoexec.model import ActionName, ActionOffer, Value

PLACEHOLDER: Final = "{}"
SAFE_TEXT: Final = r"[A-Za-z0-9_.,:/@+=-]{1,256}"  # what an argument may be unless its manifest says more

ArgumentName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}\Z")]
VariableName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z")]
UserName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9._-]{0,31}\Z")]
ExitStatus = Annotated[int, msgspec.Meta(ge=0, le=255)]


class Kind(enum.StrEnum):
    """What the text of an argument must be."""

    STRING = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    CHOICE = "choice"


class OnBusy(enum.StrEnum):
    """What becomes of a run that is asked for while another of the same action is going on."""

    COALESCE = "coalesce"
    WAIT = "wait"
    REFUSE = "refuse"


class Argument(Value, frozen=True):
    """``[arguments.NAME]``. ``argv`` is appended to the command, each ``{}`` replaced by the value; a boolean has no
    ``{}``, its ``argv`` is appended when it is true. ``pattern`` must match the whole of a string.
    """

    type: Kind = Kind.STRING
    pattern: str | None = None
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    default: bool | int | str | None = None
    required: bool = False
    help: str = ""
    argv: tuple[str, ...] = ()


class Rule(Value, frozen=True):
    """Applies when the exit status is one of ``exit``, or a line of the output has a match for one of ``output``."""

    exit: tuple[ExitStatus, ...] = ()
    output: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.exit or self.output)


class Rules(Value, frozen=True):
    """``[outcome]``: how the tool says how it went. Without it, exit status 0 is success and nothing is said of change.

    `nanoexec.actions.outcome` has the order in which they are asked.
    """

    succeeded: Rule = Rule(exit=(0,))
    changed: Rule = Rule()
    failed: Rule = Rule()


class Cron(Value, frozen=True):
    """``[cron]``: the crontab commands that this action replaces, as a regular expression to be searched for."""

    match: str = ""


class Fallback(Value, frozen=True):
    """``[fallback]``: when the crontab line that this action has taken over still runs it (`nanoexec.fallback`).

    ``timeout`` limits such a run. Without it there is no limit, as cron has none.
    """

    policy: Policy = Policy.UNSATISFIED
    timeout: str | None = None

    @property
    def timeout_seconds(self) -> float:
        """How long a scheduled run may last; infinity without a limit."""
        return float("inf") if self.timeout is None else parse_duration(self.timeout)


class Manifest(Value, frozen=True):
    """An action: a name, the command it stands for, and the rules it runs under. ``command`` is never empty."""

    name: ActionName
    summary: str = ""
    homepage: str = ""
    command: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    user: UserName = "root"
    cwd: str = "/"
    env: dict[VariableName, str] = msgspec.field(default_factory=dict)
    timeout: str = "1h"
    kill_after: str = "10s"
    on_busy: OnBusy = OnBusy.COALESCE
    arguments: dict[ArgumentName, Argument] = msgspec.field(default_factory=dict)
    outcome: Rules = Rules()
    cron: Cron | None = None
    fallback: Fallback | None = None

    @property
    def timeout_seconds(self) -> float:
        """How long a run may last before it is asked to end (SIGTERM)."""
        return parse_duration(self.timeout)

    @property
    def kill_after_seconds(self) -> float:
        """How long it then has before it is killed (SIGKILL)."""
        return parse_duration(self.kill_after)

    @property
    def offer(self) -> ActionOffer:
        """What a node tells the hub of it."""
        return ActionOffer(name=self.name, summary=self.summary, arguments=tuple(self.arguments))


class Fault(Value, frozen=True):
    """One thing wrong in one file. ``key`` is dotted, empty for the whole file; ``action`` is the action that is not
    available because of it.
    """

    file: str
    key: str
    message: str
    action: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.message}" if self.key else f"{self.file}: {self.message}"
