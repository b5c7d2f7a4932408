"""From an order to work: what the node itself makes of it, before anything starts.

In this sequence: the signature (over bytes that nobody has parsed yet), the trigger, whether it was signed for this
node, the action's name, what the action requires of the machine, the arguments, the user. Up to the trigger a fault
leaves no trace, for there is no id to remember; nor does what is for others. After it, a refusal is journaled like a
run: the hub has seen that id refused, so it must never start, whatever the configuration says by the time it comes
again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from nanoexec.actions import Catalog, Manifest, OnBusy, bind
from nanoexec.catalog import missing
from nanoexec.config import AgentConfig
from nanoexec.errors import RefusedError, TargetError
from nanoexec.model import EXEC, MAX_ACTIONS, ActionOffer, Cause, Order, Run, Trigger, Value
from nanoexec.runner.command import PATH, Command, prepare
from nanoexec.target import contains
from nanoexec.wire.network import decode_trigger

Verify = Callable[
    [Sequence[str], bytes, bytes], None
]  # raises RefusedError, or ConfigError for a signer that is no key
EXEC_OFF: Final = (
    "ad-hoc commands are off on this node: to allow them, set allow_exec = true in /etc/nanoexec/agent.toml, "
    "and restart the runner"
)
EXEC_TIMEOUT: Final = "10m"
_DAY: Final = 86400.0


class Work(Value, frozen=True):
    """A run that may start, and all that is needed to start it. ``expires`` is the trigger's, 0 without one."""

    run: Run
    manifest: Manifest
    command: Command
    expires: float = 0.0

    @property
    def exclusive(self) -> bool:
        """Whether runs of this action exclude each other. Ad-hoc commands have nothing in common but their name."""
        return self.run.action != EXEC


def trigger_of(order: Order, config: AgentConfig, verify: Verify) -> Trigger:
    """The trigger that an order carries, its signature verified.

    Raises `RefusedError`, `ProtocolError`, `ConfigError`.
    """
    if config.signers:
        verify(config.signers, order.body, order.signature)
    return decode_trigger(order.body)


def check_meant(trigger: Trigger, name: str) -> None:
    """Raises `RefusedError` for a trigger that was signed for other nodes than this one, ``name``.

    Every agent hears the orders for all nodes, and one that somebody has taken over could hand in any of them.
    """
    try:
        meant = contains(trigger.nodes, name)
    except TargetError as error:
        raise RefusedError(f"trigger {trigger.id}: {error}") from None
    if not meant:
        raise RefusedError(f"trigger {trigger.id} was not signed for {name}")


def horizon(config: AgentConfig, now: float) -> float:
    """What lies before it, the journal may have forgotten."""
    return now - config.journal_days * _DAY


def requested(trigger: Trigger, now: float) -> Run:
    """The run that a trigger asks for, before the node has looked at what it says."""
    return Run(
        id=trigger.id,
        action=trigger.action,
        cause=Cause.TRIGGER,
        by=trigger.by,
        requested=now,
        arguments=trigger.arguments,
    )


def triggered_work(trigger: Trigger, run: Run, catalog: Catalog, config: AgentConfig, language: str | None) -> Work:
    """What ``trigger`` means on this node. Raises `RefusedError`."""
    if trigger.action == EXEC:
        manifest = _adhoc(trigger, config)
    elif trigger.command:
        raise RefusedError(f"a trigger of action {trigger.action} must not bring a command: this node has its own")
    else:
        manifest = catalog.find(trigger.action)
    return work(run, manifest, language, timeout=trigger.timeout, expires=trigger.expires)


def work(
    run: Run, manifest: Manifest, language: str | None, *, timeout: float | None = None, expires: float = 0.0
) -> Work:
    """``run`` bound to ``manifest``. Raises `RefusedError`: a program is missing, an argument does not fit, ..."""
    if absent := missing(manifest, manifest.env.get("PATH", PATH)):
        raise RefusedError(f"action {run.action} requires {', '.join(absent)}, which this node does not have")
    bound = replace(run, command=bind(manifest, run.arguments))
    return Work(run=bound, manifest=manifest, command=prepare(manifest, bound, timeout, language), expires=expires)


def offers(catalog: Catalog, config: AgentConfig, intervals: Mapping[str, float]) -> tuple[ActionOffer, ...]:
    """The actions that this machine can run now, as many as a hub takes.

    ``intervals`` is as `nanoexec.runner.rhythm.intervals` gives it.
    """
    usable = (
        manifest for manifest in catalog.actions.values() if not missing(manifest, manifest.env.get("PATH", PATH))
    )
    adhoc = (ActionOffer(name=EXEC, summary="Run an ad-hoc command"),) if config.allow_exec else ()
    named = tuple(replace(manifest.offer, interval=intervals.get(manifest.name)) for manifest in usable)
    return named[: MAX_ACTIONS - len(adhoc)] + adhoc


def _adhoc(trigger: Trigger, config: AgentConfig) -> Manifest:
    if not config.allow_exec:
        raise RefusedError(EXEC_OFF)
    if not trigger.command or not trigger.command[0]:
        raise RefusedError("an ad-hoc trigger must bring a command")
    if any("\0" in word for word in trigger.command):
        raise RefusedError("an ad-hoc command cannot contain a NUL byte")
    return Manifest(
        name=EXEC, command=trigger.command, user=config.exec_user, timeout=EXEC_TIMEOUT, on_busy=OnBusy.WAIT
    )
