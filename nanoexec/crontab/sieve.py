"""Which crontab lines need not be read at all: those that do not even name a tool, as most do not.

An expression that can only match where a certain word stands is found with a search for that word, fifty times faster
than by reading the command as a shell would. A word that is spelled with quotes in its middle is missed; then the line
is not taken, as always when in doubt.
"""

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from nanoexec.actions import Manifest

_PIECE: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_OPTIONAL: Final = frozenset("?*{")


class Sieve:
    """What lets through every line that an action could take over or mention."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self._words: re.Pattern[bytes] | None = None
        words = []
        for manifest in manifests:
            if manifest.cron and manifest.cron.match:
                tool = (manifest.command or (manifest.name,))[0].rpartition("/")[2]
                if not needs(manifest.cron.match, tool):
                    return
                words.append(re.escape(tool.encode()))
        self._words = re.compile(b"|".join(words) or b"(?!)")

    def passes(self, raw: bytes) -> bool:
        """Whether a line must be read to know what it is."""
        return self._words is None or b"--scheduled" in raw or self._words.search(raw) is not None


def needs(pattern: str, word: str) -> bool:
    """Whether a regular expression certainly matches only text that has ``word`` in it.

    True if the word stands in it letter by letter, outside of groups and alternatives, and nothing makes its end
    optional; False in doubt.
    """
    if re.search(r"\(\?[aiLmsux-]+[:)]", pattern):  # flags, which may change what letters mean
        return False
    depth, plain = 0, ""
    pieces = [*_PIECE.findall(pattern), ""]
    for piece, after in pairwise(pieces):
        if piece == "|" and not depth:
            return False
        depth += (piece == "(") - (piece == ")")
        literal = piece if len(piece) == 1 and piece not in ".^$()|+?*{}[" else ""
        if piece[0] == "\\" and not piece[1:].isalnum():  # an escaped sign
            literal = piece[1:]
        plain += literal if literal and not depth and after[:1] not in _OPTIONAL else "\0"
    return bool(word) and word in plain
