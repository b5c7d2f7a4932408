"""As much of the shell's grammar as it takes to see which simple commands one line runs.

Pure, and not a shell: nothing is expanded. What is not understood for certain (loops, functions, here-documents, work
put in the background) raises `UsageError`, with the reason; nobody may guess what such a line does.
"""

import re
from collections.abc import Iterator
from typing import Final

from nanoexec.errors import UsageError
from nanoexec.model import Value

_TOKEN: Final = re.compile(
    r"""[ \t\n]+ | \#[^\n]*
    | (?P<redirect>\d*(?:<<<|<<-?|<>|<&|>>|>\||>&|<|>)|&>>?) | (?P<operator>&&|\|\||;;|\|&|[;&|()])
    | (?P<plain>[^\s;&|<>()'"\\$`]+(?=[\s;&|<>()]|\Z))""",
    re.VERBOSE,
)
_PIECE: Final = re.compile(
    r"""(?P<plain>[^\s;&|<>()'"\\$`]+)|'(?P<single>[^']*)'|\\(?P<escaped>.)|(?P<name>\$[\w#?!*@$-]?)"""
)
_IN_QUOTES: Final = re.compile(r"""(?P<plain>[^"\\$`]+)|\\(?P<escaped>[$`"\\])|(?P<other>\\|\$(?![({]))""")
_IN_PARENTHESES: Final = re.compile(
    r"""[^"'\\()`]+|'[^']*'|\\.|(?P<quote>")|(?P<open>\()|(?P<close>\))|`[^`]*`""", re.DOTALL
)
# One simple command of plain words, as most lines are: read ten times as fast as the general case.
_PLAIN: Final = re.compile(
    r"\s*(?P<words>[\w@%+=:,./-]+(?:[ \t]+[\w@%+=:,./~-]+)*)(?:[ \t]+[12]?>>?[ \t]*(?:&[12]|[\w./-]+))*[ \t]*", re.ASCII
)
_OPENING: Final = frozenset(("if", "{"))
_CLOSING: Final = frozenset(("fi", "}"))
_BETWEEN: Final = frozenset(("then", "elif", "else"))
_PASSING: Final = frozenset(("!", "time"))
_UNREAD: Final = frozenset(("for", "while", "until", "case", "select", "function", "do", "done", "esac", "coproc"))
_KEYWORDS: Final = re.compile(rf"\s*(?:{'|'.join(_CLOSING | _OPENING | _BETWEEN | _PASSING | _UNREAD)})\b")
_BASH_LIKE: Final = frozenset(("bash", "zsh"))


class Word(Value, frozen=True):
    """A word without its quotes; expansions stand in it as they were written. ``inner`` are the command lines of its
    command substitutions.
    """

    text: str
    inner: tuple[str, ...] = ()
    quoted: bool = False


class Mark(Value, frozen=True):
    """What the shell reads between words: an operator, or a redirection of the word after it."""

    text: str
    redirects: bool = False


class Simple(Value, frozen=True):
    """A simple command: assignments, program, arguments, without redirections.

    ``pipelines`` are the numbers of the pipeline that it is part of and of those around it, outermost first.
    ``rescues`` is the pipeline that has failed when this one runs (``||``), None without one.
    """

    words: tuple[Word, ...]
    pipelines: tuple[int, ...]
    rescues: int | None = None


def simple_commands(text: str, shell: str = "/bin/sh") -> tuple[Simple, ...]:
    """The simple commands of a command line, in their order. Raises `UsageError`."""
    if "\r" in text:
        raise UsageError("it has a carriage return, which the shell takes for part of a word")
    if (plain := _PLAIN.fullmatch(text)) and not _KEYWORDS.match(text):
        return (Simple(tuple(Word(word) for word in plain["words"].split()), (0,)),)
    try:
        return _read(text, bash=shell.rpartition("/")[2] in _BASH_LIKE)
    except RecursionError:  # of quotes in expansions in quotes; any user can write such a line
        raise UsageError("it is nested too deep to be read here") from None


def _read(text: str, *, bash: bool) -> tuple[Simple, ...]:
    reader = _Reader()
    redirection = ""
    for token in _tokens(text, bash=bash):
        if redirection:
            if isinstance(token, Mark):
                raise UsageError(f"it has {redirection + token.text!r}, which is not read here")
            redirection = ""
        elif isinstance(token, Word):
            reader.word(token)
        elif token.redirects:
            redirection = token.text
        else:
            reader.operator(token.text)
    return reader.end()


class _Reader:
    """Puts words and operators together."""

    def __init__(self) -> None:
        self._found: list[Simple] = []
        self._words: list[Word] = []
        self._pipelines = [0]
        self._count = 1
        self._rescues: dict[int, int] = {}
        self._closers: list[str] = []
        self._closed = False  # behind a compound command: an operator must follow

    def word(self, word: Word) -> None:
        keyword = "" if self._words or word.quoted else word.text
        if keyword in _UNREAD:
            raise UsageError(f"it has `{keyword}`, which is not read here")
        if keyword in _OPENING:
            self._open("fi" if keyword == "if" else "}")
        elif keyword in _CLOSING:
            self._close(keyword)
        elif keyword in _BETWEEN:
            self._next()
        elif self._closed:
            raise UsageError(f"the shell does not expect {word.text!r} there")
        elif keyword not in _PASSING:
            self._words.append(word)

    def operator(self, operator: str) -> None:
        if operator == "(":
            if self._words:
                raise UsageError("it defines a function or an array, which is not read here")
            self._open(")")
        elif operator == ")":
            self._close(")")
        elif operator in ("&", ";;"):
            raise UsageError(
                "it puts work in the background (&)" if operator == "&" else "it has `;;` outside of `case`"
            )
        else:
            self._flush()
            self._closed = False
            if operator not in ("|", "|&"):
                self._next(rescue=operator == "||")

    def end(self) -> tuple[Simple, ...]:
        self._flush()
        if self._closers:
            raise UsageError(f"it lacks a `{self._closers[-1]}`")
        return tuple(self._found)

    def _open(self, closer: str) -> None:
        self._closers.append(closer)
        self._pipelines.append(self._number())

    def _close(self, closer: str) -> None:
        self._flush()
        if not self._closers or self._closers.pop() != closer:
            raise UsageError(f"the shell does not expect `{closer}` there")
        self._pipelines.pop()
        self._closed = True

    def _next(self, *, rescue: bool = False) -> None:
        before, self._pipelines[-1] = self._pipelines[-1], self._number()
        if rescue:
            self._rescues[self._pipelines[-1]] = before

    def _number(self) -> int:
        self._count += 1
        return self._count

    def _flush(self) -> None:
        if self._words:
            rescues = self._rescues.get(self._pipelines[-1])
            self._found.append(Simple(tuple(self._words), tuple(self._pipelines), rescues))
            self._words = []


def _tokens(text: str, *, bash: bool) -> Iterator[Word | Mark]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            word, at = _word(text, at)
            yield word
            continue
        at = match.end()
        if match["plain"]:
            yield Word(match["plain"])
        elif match["operator"]:
            yield Mark(match["operator"])
        elif redirect := match["redirect"]:
            if "<<" in redirect and not redirect.endswith("<<<"):
                raise UsageError("it has a here-document, which is not read here")
            if redirect.startswith("&") and not bash:
                raise UsageError("it has `&>`, which puts work in the background unless SHELL is bash")
            yield Mark(redirect, redirects=True)


def _word(text: str, at: int) -> tuple[Word, int]:
    """The word that begins at ``at``, and where it ends."""
    start, quoted = at, False
    parts: list[str] = []
    inner: list[str] = []
    while at < len(text):
        character = text[at]
        if character in '"`' or text.startswith(("$(", "${"), at):
            part, at, found = _expansion(text, at)
            inner.extend(found)
            quoted = True
        elif match := _PIECE.match(text, at):
            at, quoted = match.end(), quoted or not match["plain"]
            part = next((piece for piece in match.groups() if piece is not None), "")
        elif character in "'\\":
            raise UsageError("it has a quote that is not closed" if character == "'" else "it ends in a backslash")
        else:
            break
        parts.append(part)
    return Word("".join(parts), tuple(inner), quoted or at == start), at


def _expansion(text: str, at: int) -> tuple[str, int, tuple[str, ...]]:
    """What begins at ``at`` with ``"``, `````, ``$(`` or ``${``: its text, where it ends, the command lines inside."""
    if text[at] == '"':
        return _quotes(text, at)
    if text[at] == "`":
        end = text.find("`", at + 1)
    elif text[at + 1] == "{":
        end = text.find("}", at + 1)
    else:
        end = _closing(text, at + 2)
    if end < 0:
        raise UsageError("it has an expansion that is not closed")
    whole = text[at : end + 1]
    if whole.startswith("${"):
        return whole, end + 1, ()
    if whole.startswith("$((") and whole.endswith("))"):
        return whole, end + 1, ()
    return whole, end + 1, (whole[1:-1] if whole.startswith("`") else whole[2:-1],)


def _quotes(text: str, at: int) -> tuple[str, int, tuple[str, ...]]:
    """A string in double quotes."""
    at += 1
    parts: list[str] = []
    inner: list[str] = []
    while at < len(text) and text[at] != '"':
        if match := _IN_QUOTES.match(text, at):
            parts.append(match["escaped"] or match[0])
            at = match.end()
        else:
            part, at, found = _expansion(text, at)
            parts.append(part)
            inner.extend(found)
    if at >= len(text):
        raise UsageError("it has a quote that is not closed")
    return "".join(parts), at + 1, tuple(inner)


def _closing(text: str, at: int) -> int:
    """Where the parenthesis is closed that was opened before ``at``; -1 if nowhere."""
    depth = 1
    while depth and (match := _IN_PARENTHESES.match(text, at)):
        at = match.end()
        if match["quote"]:
            at = _quotes(text, match.start())[1]
        depth += bool(match["open"]) - bool(match["close"])
    return -1 if depth else at - 1
