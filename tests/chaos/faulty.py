"""Start a part of nanoexec that fails at a write to choose: ``python -m tests.chaos.faulty MODULE [OPTIONS]``.

MODULE is what would stand after ``python -m``; it runs as it would there, in this process, and knows of nothing.

NANOEXEC_FAULT=POINT.WHEN:COUNT[:HOW]  at the COUNT-th time that this process or a fork of it comes to POINT, `before`
                                       or `after` the commit, it dies (SIGKILL), or is told that the disk failed (error)
NANOEXEC_FAULT_SLOW=SECONDS            each commit takes so much longer
NANOEXEC_FAULT_HASTE=NUMBER            every pause is so many times shorter: better times are waited for in less time
NANOEXEC_FAULT_LOG=FILE                gets a line for each point that was reached, for each death and each error, for
                                       each process that was slowed, and for each write that the disk itself refused

A point is a public function whose doing SQLite commits, and for `Store.commit` also the kind of change. They are found
twice. `points` reads the source: every public function of journal and store that leads to a write. Running, it is the
connection that is watched: whatever is committed to a file is told with the public function that stands above it. What
the one knows and the other does not is a write that somebody forgot, and the tests say so.
"""

import ast
import fcntl
import os
import runpy
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self, get_args

WHENS: Final = ("before", "after")
DIE, ERROR = "die", "error"
COMMIT: Final = "Store.commit"
_WRITERS: Final = (
    "nanoexec.runner.journal",
    "nanoexec.runner.glance",
    "nanoexec.store.store",
    "nanoexec.store.opening",
)
_NO_ROWS: Final = {"Store.shrink_some"}  # writes that give room back, and change nothing that is said
_CONSTANTS: Final = "tables"  # the module whose names stand for SQL
_VERBS: Final = ("INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "ALTER", "DROP")
_WRITES: Final = ("_write", "write_atomically")  # functions that write without SQL of their own
_LEAST: Final = 1024  # a name of a point is shorter: its line goes into a pipe, or a file, at once


def points() -> frozenset[str]:
    """Every point, by the source alone."""
    found = {name for module in _WRITERS for name in _writers(module)}
    kinds = {f"{COMMIT} {kind}" for kind in _kinds()}
    assert COMMIT in found
    return frozenset(found - {COMMIT} - _NO_ROWS | kinds)


def _kinds() -> list[str]:
    from nanoexec.record import Change  # noqa: PLC0415 - a crontab slot does without

    return [kind.__name__ for kind in get_args(Change)]


def _writers(module: str) -> Iterator[str]:
    """The public functions of a module that lead, within it, to a statement that changes something."""
    spec = find_spec(module)
    assert spec
    assert spec.origin
    tree = ast.parse(Path(spec.origin).read_text())
    functions = dict(_functions(tree, ""))
    reached = {name for name, node in functions.items() if _changes(node)}
    while True:  # whoever calls one of them is one; but what a public one writes is told with its name alone
        called = {_last(name) for name in reached if not _is_public(name)}
        more = {name for name, node in functions.items() if _calls(node) & called & {_last(f) for f in functions}}
        if more <= reached:
            break
        reached |= more
    return (name for name in reached if _is_public(name))


def _functions(tree: ast.AST, within: str) -> Iterator[tuple[str, ast.AST]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield f"{within}{node.name}", node


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _is_public(qualified: str) -> bool:
    return not _last(qualified).startswith(("_", "<"))


def _changes(function: ast.AST) -> bool:
    calls = _calls(function)
    return bool(calls & set(_WRITES)) or any(_is_write(text) for text in _texts(function))


def _calls(function: ast.AST) -> set[str]:
    called = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return {node.attr for node in called if isinstance(node, ast.Attribute)} | {
        node.id for node in called if isinstance(node, ast.Name)
    }


def _texts(function: ast.AST) -> Iterator[str]:
    """What a function says literally, and by the names of SQL."""
    from nanoexec.runner import tables  # noqa: PLC0415 - the launcher of something else does without

    for node in ast.walk(function):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == _CONSTANTS:
            value = getattr(tables, node.attr)
            yield from [value] if isinstance(value, str) else map(str, value) if isinstance(value, tuple) else []


def _is_write(sql: str) -> bool:
    return sql.lstrip().upper().startswith(tuple(f"{verb} " for verb in _VERBS))


class Faults:
    """What is to go wrong here, and what has. Forks share the count: it is a pipe from which each takes a byte."""

    def __init__(self, order: str, log: Path | None, slow: float) -> None:
        target, _, rest = order.partition(":")
        count, _, how = rest.partition(":")
        self._target = target
        self._how = how or DIE
        self._slow = slow
        self._log = log
        self._pause = time.sleep
        self._slowed = False
        self._reader, writer = os.pipe()
        os.write(writer, b"." * (int(count or "1") - 1) + b"X")
        os.close(writer)

    @classmethod
    def ordered(cls, environment: Mapping[str, str]) -> Self:
        """As the environment says."""
        log = environment.get("NANOEXEC_FAULT_LOG")
        slow = float(environment.get("NANOEXEC_FAULT_SLOW", "0"))
        return cls(environment.get("NANOEXEC_FAULT", ""), Path(log) if log else None, slow)

    def reach(self, names: Sequence[str], when: str) -> None:
        """This process is at these points. Raises `sqlite3.OperationalError`, or does not return at all."""
        if names and when == "before" and self._slow:
            self._slow_down()
        for name in names:
            point = f"{name}.{when}"
            self._note(f"hit {point}")
            if point == self._target and os.read(self._reader, 1) == b"X":
                self._fail(point)

    def refused(self, names: Sequence[str]) -> None:
        """The disk would not take these writes, and nobody here had ordered that."""
        for name in names:
            self._note(f"refused {os.getpid()} {name}")

    def _slow_down(self) -> None:
        if not self._slowed:
            self._slowed = True
            self._note(f"slow {self._slow}")
        self._pause(self._slow)

    def _fail(self, point: str) -> None:
        if self._how == ERROR:
            self._note(f"error {os.getpid()} {point}")
            raise sqlite3.OperationalError("disk I/O error (on purpose)")
        self._note(f"dead {os.getpid()} {point}")
        os.kill(os.getpid(), signal.SIGKILL)

    def _note(self, line: str) -> None:
        if self._log is None:
            return
        with self._log.open("ab", buffering=0) as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            log.write(f"{line}\n".encode()[:_LEAST])


class Connection(sqlite3.Connection):
    """One that tells of every commit to a file."""

    def __init__(self, database: Any, *given: Any, faults: Faults, **more: Any) -> None:
        super().__init__(database, *given, **more)
        self.faults = faults
        self.in_memory = str(database) == ":memory:"
        self.changed = False

    def cursor(self, *_: Any) -> "Cursor":  # type: ignore[override]
        return super().cursor(Cursor)

    def execute(self, sql: str, *values: Any) -> "Cursor":  # type: ignore[override]
        return self.cursor().execute(sql, *values)

    def executescript(self, sql: str) -> "Cursor":  # type: ignore[override]
        cursor: Any = self.watched(lambda: super(Connection, self).executescript(sql), changes=_is_write(sql))
        return cursor  # type: ignore[no-any-return]

    def commit(self) -> None:
        if self.in_transaction:
            self.watched(super().commit, changes=self.changed)
        self.changed = False

    def watched(self, act: Callable[[], Any], *, changes: bool) -> Any:
        """Do it; if it is a commit, fail before or after it as ordered."""
        names = who_writes() if changes and not self.in_memory else []
        self.faults.reach(names, "before")
        try:
            done = act()
        except sqlite3.OperationalError:
            self.faults.refused(names)
            raise
        self.faults.reach(names, "after")
        return done


class Cursor(sqlite3.Cursor):
    """One of its cursors."""

    connection: Connection

    def execute(self, sql: str, *values: Any) -> "Cursor":
        return self._watched(super().execute, sql, *values)

    def executemany(self, sql: str, *values: Any) -> "Cursor":
        return self._watched(super().executemany, sql, *values)

    def _watched(self, act: Callable[..., Any], sql: str, *values: Any) -> "Cursor":
        connection = self.connection
        if sql.strip().upper() == "COMMIT":
            changed, connection.changed = connection.changed, False
            connection.watched(partial(act, sql, *values), changes=changed)
        elif connection.in_transaction:
            act(sql, *values)
            connection.changed = connection.changed or _is_write(sql)
        else:
            connection.changed = False
            connection.watched(partial(act, sql, *values), changes=_is_write(sql))
        return self


def who_writes() -> list[str]:
    """The points that this is: the innermost public function of nanoexec on the stack; of a group, all kinds in it."""
    for frame in _frames():
        module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname
        if module.startswith("nanoexec.") and _is_public(name) and "<locals>" not in name:
            if name == COMMIT:
                kinds = dict.fromkeys(type(change).__name__ for change in frame.f_locals["group"])
                return [f"{COMMIT} {kind}" for kind in kinds]
            return [name]
    return ["nobody"]


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame:
        yield frame
        frame = frame.f_back


def install(environment: Mapping[str, str] = os.environ) -> None:
    """Have this process fail as the environment says: every connection and every new database."""
    import nanoexec.files  # noqa: PLC0415 - before those who import the function from it

    faults = Faults.ordered(environment)
    hasten(float(environment.get("NANOEXEC_FAULT_HASTE", "1")))
    real_connect, real_write = sqlite3.connect, nanoexec.files.write_atomically

    def connect(database: Any, **more: Any) -> Any:
        return real_connect(database, factory=partial(Connection, faults=faults), **more)

    def write_atomically(path: Path, data: bytes, mode: int) -> None:
        names = [name for name in who_writes() if name == "prepare"]
        faults.reach(names, "before")
        real_write(path, data, mode)
        faults.reach(names, "after")

    sqlite3.connect = connect  # type: ignore[assignment]
    nanoexec.files.write_atomically = write_atomically


def hasten(times: float) -> None:
    """Make every pause so many times shorter. What takes `time.sleep` for a default is imported later."""
    pause = time.sleep
    if times > 1:
        time.sleep = lambda seconds: pause(seconds / times)


def main() -> None:
    """Become the module."""
    sys.argv = sys.argv[1:]
    install()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
