"""Signing a trigger on the operator's machine: the hub prepares the bytes, the operator's key signs just those.

Before it signs, the command line reads what the hub has prepared: a hub that was taken over must not get a signature
under something else than what was asked for.
"""

from pathlib import Path

from nanoexec.cli import render
from nanoexec.cli.ask import ask
from nanoexec.config import Paths
from nanoexec.errors import ProtocolError, RefusedError
from nanoexec.keys import credentials, signing
from nanoexec.model import Order
from nanoexec.target import covers
from nanoexec.wire import control, network


def signed(paths: Paths, wanted: control.Wanted, key_file: Path, *, watch: bool) -> control.Issue:
    """The request that issues this wish, signed. Raises `IdentityError` for the key, `RefusedError` for a false hub."""
    key = credentials.read_key(key_file, "`nanoexec hub signing-key FILE` makes one")
    prepared = ask(paths, control.Prepare(wanted=wanted))
    if not isinstance(prepared, control.Prepared):
        raise ProtocolError("the hub did not prepare the trigger")
    trigger = network.decode_trigger(prepared.body)
    same = (trigger.action, trigger.arguments, trigger.command, trigger.timeout) == (
        wanted.action,
        wanted.arguments,
        wanted.command,
        wanted.timeout,
    )
    lifetime = trigger.expires - trigger.issued
    if not same or lifetime > wanted.lifetime + 1 or not covers(wanted.target, trigger.nodes):
        raise RefusedError("the hub prepared something else than what was asked for: not signed")
    render.tell(f"signing {trigger.action} for {trigger.nodes}")
    order = Order(body=prepared.body, signature=signing.sign(key, prepared.body))
    return control.Issue(order=order, target=wanted.target, watch=watch)
