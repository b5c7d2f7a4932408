"""Command lines at the hub's control socket. What they hear is compared at that moment with what is on its disk."""

import asyncio
from typing import TYPE_CHECKING, Any

from nanoexec.errors import NanoexecError, NoTargetError, UnavailableError, UsageError
from nanoexec.hub.control import ControlSocket
from nanoexec.hub.service import Hub
from nanoexec.wire import control, stream
from tests.chaos.truth import Truth

if TYPE_CHECKING:
    from tests.chaos.world import World


async def ask(world: "World", hub: Hub, request: control.Request) -> None:
    """Ask the hub, and hear what it says for as long as both live. The socket would tell an error, and hang up."""
    writer: Any = _CommandLine(world.truth)
    try:
        await ControlSocket(hub)._answer(request, "root", asyncio.StreamReader(), writer)
    except NanoexecError as error:
        world.figures.add("wishes that a hub has refused")
        if not _meant(world, request, error):
            world.truth.broken.append(f"a command line asks for {request}, and hears {error!r}")


def _meant(world: "World", request: control.Request, error: NanoexecError) -> bool:
    """Disks are full, old triggers are forgotten by a restored hub, and not every trigger is for every node."""
    if isinstance(error, UnavailableError):
        return "disk is full" in str(error)
    if not isinstance(request, control.Cancel):
        return False
    nodes = [node for node, id_ in world.truth.states if id_ == request.id]
    return isinstance(error, NoTargetError if nodes else UsageError)


class _CommandLine:
    """Whatever is written to it is heard, and compared."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.transport = self

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self._truth.broken.append("the hub hangs up on a command line that has read everything")

    def write(self, data: bytes) -> None:
        reply = control.decode_reply(data[stream.HEADER :])
        if isinstance(reply, control.Accepted):
            self._truth.told_accepted(reply.trigger.id)
        elif isinstance(reply, control.Cancelling):
            for delivery in reply.deliveries:
                self._truth.told(delivery)
                self._truth.told_taken_back(delivery, over=delivery.node in reply.over)
        elif isinstance(reply, control.Progress):
            for delivery in reply.deliveries:
                self._truth.told(delivery)
                self._truth.judged["progress"] += 1
