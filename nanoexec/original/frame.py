"""Frames and addresses of the original's wire. Pure."""

from typing import Final
from urllib.parse import urlsplit

from nanoexec.errors import ProtocolError, UsageError

MAX_FRAME: Final = 64 << 10  # bytes
_SHOWN: Final = 200  # characters of a peer's text in a line


def parse_frame(frame: bytes) -> tuple[str, str]:
    """Host and command of ``HOST:COMMAND``, without trailing NULs and without blanks around. Raises `ProtocolError`.

    A NUL inside is refused: a C program would act on what stands before it, and who reads the log sees all of it.
    """
    if len(frame) > MAX_FRAME:
        raise ProtocolError(f"frame of {len(frame)} bytes refused: at most {MAX_FRAME} are allowed")
    try:
        text = frame.rstrip(b"\0\r\n").decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"frame {shown(frame)} refused: not UTF-8 at byte {error.start}") from None
    if "\0" in text:
        raise ProtocolError(f"frame {shown(frame)} refused: it has a NUL inside")
    host, _, command = text.partition(":")
    command = command.strip(" \t\r\n")
    if not (host and command):
        raise ProtocolError(f"frame {shown(frame)} refused: expected HOST:COMMAND")
    return host, command


def compose_frame(message: str) -> bytes:
    """The frame of ``HOST:COMMAND``, with the NUL at its end that a C listener needs. Raises `UsageError`."""
    try:
        host, command = parse_frame(message.encode(errors="surrogateescape"))
    except ProtocolError as error:
        raise UsageError(f"cannot send this: {error}") from None
    return f"{host}:{command}\0".encode()


def check_address(url: str) -> None:
    """Refuse what NNG would accept and then dial for ever in vain. Raises `UsageError`."""
    try:
        parts = urlsplit(url)
        good = parts.scheme == "tcp" and bool(parts.hostname and parts.port) and not parts.path
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"{url!r} is not an address of the original's wire: write tcp://HOST:PORT")


def shown(text: str | bytes) -> str:
    """A peer's text for a line of ours: cut, and quoted so that it cannot speak to the terminal."""
    quoted = ascii(text[:_SHOWN]).removeprefix("b")
    return f"{quoted}..." if len(text) > _SHOWN else quoted
