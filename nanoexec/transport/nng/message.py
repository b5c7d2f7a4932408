"""NNG messages of a raw socket, with the header that pynng hides: it names a request's way back."""

from typing import Any, Final, NamedTuple

import pynng
from pynng import ffi, lib

from nanoexec.transport.limits import MAX_PUBLISHED

SOCKET_LIMIT: Final = MAX_PUBLISHED + 256  # bytes that NNG reads before it hangs up: a request's header counts as well


class Message(NamedTuple):
    """``pipe`` is the id of the connection it came through, ``header`` what an answer must give back."""

    pipe: int
    header: bytes
    body: bytes


def receive(socket: Any) -> Message | None:
    """The next message, None when there is none now or the socket is closed."""
    out = ffi.new("nng_msg **")
    if lib.nng_recvmsg(socket.socket, out, lib.NNG_FLAG_NONBLOCK):
        return None
    message = out[0]
    try:
        return Message(
            pipe=lib.nng_pipe_id(lib.nng_msg_get_pipe(message)),
            header=bytes(ffi.buffer(lib.nng_msg_header(message), lib.nng_msg_header_len(message))),
            body=bytes(ffi.buffer(lib.nng_msg_body(message), lib.nng_msg_len(message))),
        )
    finally:
        lib.nng_msg_free(message)


def send(socket: Any, header: bytes, body: bytes) -> bool:
    """Whether NNG took the message. One to a connection that has gone is taken and dropped."""
    out = ffi.new("nng_msg **")
    pynng.check_err(lib.nng_msg_alloc(out, 0))
    message = out[0]
    fault = (
        lib.nng_msg_append(message, body, len(body))
        or lib.nng_msg_header_append(message, header, len(header))
        or lib.nng_sendmsg(socket.socket, message, lib.NNG_FLAG_NONBLOCK)
    )
    if fault:
        lib.nng_msg_free(message)  # once it is sent it belongs to NNG
    return not fault
