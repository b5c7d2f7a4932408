"""What a decoder says of bytes that it cannot read, as one line for a log. Pure."""

from typing import Final

import msgspec

# msgspec lets text that is not UTF-8 out as Python's own error, and deep nesting as the interpreter's.
FAULTS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_MAX_LENGTH: Final = 300  # characters


def plain(error: Exception) -> str:
    """One printable line, cut if need be: it may quote what the peer sent."""
    if isinstance(error, UnicodeDecodeError):
        return f"text that is not UTF-8: {error.reason}"
    text = str(error).replace("`", "").rstrip(".") or type(error).__name__
    shown = text if text.isprintable() else text.encode("unicode_escape").decode()
    return shown if len(shown) <= _MAX_LENGTH else f"{shown[: _MAX_LENGTH - 3]}..."
