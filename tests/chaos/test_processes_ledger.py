"""What the process campaign makes of a ledger: the truth passes, and each lie about it is found."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from nanoexec.model import Cause, Delivery, DeliveryState, Outcome, Run, Trigger
from tests.chaos.processes_ledger import Line, Told, Verdict, judge, key_of, read

NODE: Final = "node1"
REAPER, SUPERVISOR, OTHER = 7, 40, 50
HAND: Final = "-alice"
T1, T2, T3 = (f"{'0' * 15}{number}" for number in (1, 2, 3))
ISSUED, EXPIRES, OVER = 1000.0, 4600.0, 1100.0
S, O = DeliveryState, Outcome  # noqa: E741 - the table is wide


class Scene:
    """One trigger for one node, another that succeeded, and what can be done and said besides. A word is a change."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.told = Told(over=OVER, reaper=REAPER)
        self.trigger(T2).ran(T2, 0).says(S.FINISHED, O.SUCCEEDED, id_=T2)

    def set(self, **fields: Any) -> "Scene":
        self.told = replace(self.told, **fields)
        return self

    def trigger(self, id_: str = T1, action: str = "plain", expires: float = EXPIRES) -> "Scene":
        trigger = Trigger(id_, action, "ALL", ISSUED, expires, "alice")
        return self.set(accepted={**self.told.accepted, id_: (NODE,)}, triggers={**self.told.triggers, id_: trigger})

    def ran(self, id_: str = T1, *ends: int, supervisor: int = SUPERVISOR) -> "Scene":
        """It started, and ended so if it did."""
        self.lines.append(Line("start", id_, NODE, supervisor + 1, supervisor, 0))
        self.lines += [Line("end", id_, NODE, supervisor + 1, supervisor, status) for status in ends]
        return self

    def says(
        self, state: DeliveryState, outcome: Outcome | None = None, id_: str = T1, at: float = OVER, **run: Any
    ) -> "Scene":
        """The hub says this of the delivery; and of its run, as does the journal."""
        known = self.run(outcome, id_, **run) if outcome else None
        delivery = Delivery(trigger=id_, node=NODE, state=state, updated=at, run=known)
        return self.set(deliveries={**self.told.deliveries, (id_, NODE): delivery})

    def run(self, outcome: Outcome, id_: str, **said: Any) -> Run:
        status = {O.SUCCEEDED: 0, O.FAILED: 3}.get(outcome)
        action = self.told.triggers[id_].action if id_ in self.told.triggers else "plain"
        usual = {"cause": Cause.TRIGGER, "action": action, "status": status, "pid": SUPERVISOR + 1}
        times = {"requested": 1010.0, "started": 1010.0, "ended": 1011.0, "duration": 1.0, "supervisor": SUPERVISOR}
        run = Run(**{"id": id_, "by": "alice", "outcome": outcome, **usual, **times, **said})
        self.set(journals={**self.told.journals, (id_, NODE): run})
        return run

    def by_hand(self, outcome: Outcome, supervisor: int = SUPERVISOR, **said: Any) -> "Scene":
        """The hub and the journal have a run that no trigger caused."""
        run = self.run(outcome, T3, cause=Cause.LOCAL, supervisor=supervisor, **said)
        return self.set(local={**self.told.local, key_of(run, NODE): run})

    def journaled(self, outcome: Outcome) -> "Scene":
        """The journal says something else of T1."""
        self.run(outcome, T1)
        return self

    def killed(self, *pids: int) -> "Scene":
        return self.set(killed=frozenset(pids))

    def stopped(self, *ids: str) -> "Scene":
        return self.set(stopped=frozenset(ids))

    def verdict(self, least: float = 0.0) -> Verdict:
        return judge(self.lines, self.told, least)


def coalesced(scene: Scene, end: int = 0, **served: Any) -> Scene:
    """The run of T1 took over the outcome of one that somebody started by hand."""
    scene.trigger(action="busy").ran(HAND, end, supervisor=OTHER)
    scene.by_hand(**{"outcome": O.SUCCEEDED, "supervisor": OTHER, "action": "busy", "began": 9, **served})
    return scene.says(S.FINISHED, O.SUCCEEDED, **{**NEVER, "shared": T3, "admitted": 5})


Build = Callable[[Scene], Scene]
NEVER: Final = {"started": None, "pid": None, "status": None}
WAITED: Final = {**NEVER, "reason": f"waited 1s for run {T2}"}
ALONE: Final = {**NEVER, "reason": "waited 1s for another run"}
CANNOT: Final = {"pid": None, "status": None, "reason": "cannot start /bin/sh: Too many open files"}
TRUTHS: Final[Mapping[str, Build]] = {
    "it ran": lambda s: s.trigger().ran(T1, 0).says(S.FINISHED, O.SUCCEEDED),
    "it failed": lambda s: s.trigger(action="fails").ran(T1, 3).says(S.FINISHED, O.FAILED),
    "it expired": lambda s: s.trigger(expires=1002.0).says(S.EXPIRED, at=1002.5),
    "the hub took it back": lambda s: s.trigger().says(S.CANCELLED).stopped(T1),
    "the node took it back": lambda s: s.trigger().says(S.FINISHED, O.CANCELLED, **NEVER).stopped(T1),
    "it was stopped": lambda s: s.trigger().ran().says(S.FINISHED, O.CANCELLED).stopped(T1),
    "it was stopped at its very end": lambda s: s.trigger().ran(T1, 0).says(S.FINISHED, O.CANCELLED).stopped(T1),
    "it was late": lambda s: s.trigger(action="deaf").ran().says(S.FINISHED, O.TIMED_OUT, duration=1.2),
    "it waited for too long": lambda s: (
        s.trigger(T2, "deaf")
        .trigger(action="deaf")
        .says(S.FINISHED, O.SUCCEEDED, T2)
        .says(S.FINISHED, O.SKIPPED, **WAITED)
    ),
    "it could not start": lambda s: s.trigger().says(S.FINISHED, O.FAILED, **CANNOT).set(starved={NODE}),
    "its command was killed": lambda s: s.trigger().ran().says(S.FINISHED, O.FAILED, status=-9).killed(SUPERVISOR + 1),
    "its supervisor was killed": lambda s: s.trigger().ran(T1, 0).says(S.FINISHED, O.INTERRUPTED).killed(SUPERVISOR),
    "it shared a run by hand": coalesced,
    "a run by hand": lambda s: s.ran(HAND, 0).by_hand(O.SUCCEEDED),
    "a run by hand was killed": lambda s: s.ran(HAND, 0).by_hand(O.INTERRUPTED, pid=None).killed(SUPERVISOR),
    "a run by hand was killed before its command spoke": lambda s: (
        s.ran(HAND, 0, supervisor=REAPER).by_hand(O.INTERRUPTED).killed(SUPERVISOR)
    ),
}
LIES: Final[Mapping[str, tuple[str, Build]]] = {
    "open": ("lost", lambda s: s.trigger().says(S.SENT)),
    "unknown": ("lost", lambda s: s.trigger()),
    "expired though there was time": ("lost", lambda s: s.trigger().says(S.EXPIRED)),
    "expired too early": ("lost", lambda s: s.trigger(expires=1002.0).says(S.EXPIRED, at=1000.1)),
    "expired when that is yet to come": ("lost", lambda s: s.trigger().says(S.EXPIRED, at=EXPIRES)),
    "expired, and it ran": ("invented", lambda s: s.trigger(expires=1002.0).ran(T1, 0).says(S.EXPIRED)),
    "lost": ("lost", lambda s: s.trigger().says(S.LOST)),
    "cancelled by nobody": ("lost", lambda s: s.trigger().says(S.CANCELLED)),
    "cancelled, and it ran": ("invented", lambda s: s.trigger().ran(T1, 0).says(S.CANCELLED).stopped(T1)),
    "reported as cancelled by nobody": ("invented", lambda s: s.trigger().says(S.FINISHED, O.CANCELLED, **NEVER)),
    "cancelled before it started, and it ran": (
        "invented",
        lambda s: s.trigger().ran().says(S.FINISHED, O.CANCELLED, **NEVER).stopped(T1),
    ),
    "finished without a run": ("lost", lambda s: s.trigger().says(S.FINISHED)),
    "refused": ("invented", lambda s: s.trigger().says(S.REFUSED)),
    "refused by its report": ("invented", lambda s: s.trigger().says(S.FINISHED, O.REFUSED, **NEVER).stopped(T1)),
    "a success that never was": ("invented", lambda s: s.trigger().says(S.FINISHED, O.SUCCEEDED)),
    "a success that did not end": ("invented", lambda s: s.trigger().ran().says(S.FINISHED, O.SUCCEEDED)),
    "a success that failed": ("invented", lambda s: s.trigger().ran(T1, 3).says(S.FINISHED, O.SUCCEEDED)),
    "a failure that never was": ("invented", lambda s: s.trigger().says(S.FINISHED, O.FAILED)),
    "a failure that succeeded": ("lost", lambda s: s.trigger().ran(T1, 0).says(S.FINISHED, O.FAILED)),
    "a failure with another status": (
        "invented",
        lambda s: s.trigger().ran(T1, 3).says(S.FINISHED, O.FAILED, status=1),
    ),
    "could not start where all was well": ("invented", lambda s: s.trigger().says(S.FINISHED, O.FAILED, **CANNOT)),
    "could not start, and it ran": (
        "invented",
        lambda s: s.trigger().ran(T1, 3).says(S.FINISHED, O.FAILED, **CANNOT).set(starved={NODE}),
    ),
    "could not start for no reason": (
        "invented",
        lambda s: s.trigger().says(S.FINISHED, O.FAILED, **NEVER).set(starved={NODE}),
    ),
    "killed by nobody": ("invented", lambda s: s.trigger().ran().says(S.FINISHED, O.FAILED, status=-9)),
    "interrupted by nobody": ("invented", lambda s: s.trigger().ran().says(S.FINISHED, O.INTERRUPTED)),
    "late too early": (
        "invented",
        lambda s: s.trigger(action="deaf").ran().says(S.FINISHED, O.TIMED_OUT, duration=0.5),
    ),
    "late, and has time": ("invented", lambda s: s.trigger().ran().says(S.FINISHED, O.TIMED_OUT)),
    "skipped for no reason": ("invented", lambda s: s.trigger(action="deaf").says(S.FINISHED, O.SKIPPED, **NEVER)),
    "skipped, and it ran": (
        "invented",
        lambda s: s.trigger(action="deaf").ran().says(S.FINISHED, O.SKIPPED, **{**ALONE, "started": 1010.0}),
    ),
    "skipped at once": (
        "invented",
        lambda s: s.trigger(action="deaf").says(S.FINISHED, O.SKIPPED, **{**ALONE, "ended": 1010.1}),
    ),
    "skipped, and would have waited for longer": (
        "invented",
        lambda s: s.trigger().says(S.FINISHED, O.SKIPPED, **WAITED),
    ),
    "skipped for a run of something else": (
        "invented",
        lambda s: s.trigger(action="deaf").says(S.FINISHED, O.SKIPPED, **WAITED),
    ),
    "shared with a run before it": ("invented", lambda s: coalesced(s, began=4)),
    "shared with a run of something else": ("invented", lambda s: coalesced(s, action="slow")),
    "shared with one that failed": ("invented", lambda s: coalesced(s, 3, outcome=O.FAILED)),
    "shared with one that was never reported": ("invented", lambda s: coalesced(s).set(local={})),
    "shared, and it ran": (
        "invented",
        lambda s: coalesced(s).ran().says(S.FINISHED, O.SUCCEEDED, shared=T3, admitted=5),
    ),
    "not in the journal": ("invented", lambda s: s.trigger().ran(T1, 0).says(S.FINISHED, O.SUCCEEDED).set(journals={})),
    "otherwise in the journal": (
        "invented",
        lambda s: s.trigger().ran(T1, 0).says(S.FINISHED, O.SUCCEEDED).journaled(O.FAILED),
    ),
    "it ran twice": ("doubled", lambda s: s.trigger().ran().ran(T1, 0).says(S.FINISHED, O.SUCCEEDED)),
    "nobody has triggered it": ("lost", lambda s: s.ran(T1, 0)),
    "by hand, and never heard of": ("lost", lambda s: s.ran(HAND, 0)),
    "by hand, not ended, and never heard of": ("lost", lambda s: s.ran(HAND)),
    "by hand, while another of the node was killed": (
        "lost",
        lambda s: s.ran(HAND, 0).ran(HAND, supervisor=OTHER).by_hand(O.INTERRUPTED, OTHER).killed(OTHER),
    ),
    "by hand, twice": ("doubled", lambda s: s.ran(HAND).ran(HAND, 0).by_hand(O.SUCCEEDED)),
    "by hand, interrupted by nobody": ("invented", lambda s: s.ran(HAND, 0).by_hand(O.INTERRUPTED)),
    "by hand, a success that never was": ("invented", lambda s: s.by_hand(O.SUCCEEDED)),
    "by hand, a failure that succeeded": ("lost", lambda s: s.ran(HAND, 0).by_hand(O.FAILED)),
    "by hand, an orphan, and nobody was killed": (
        "lost",
        lambda s: s.ran(HAND, 0, supervisor=REAPER).by_hand(O.INTERRUPTED),
    ),
    "by hand, an orphan, and who was killed had a line": (
        "lost",
        lambda s: s.ran(HAND, supervisor=REAPER).ran(HAND).by_hand(O.INTERRUPTED).killed(SUPERVISOR),
    ),
    "by hand, two orphans, and one was killed": (
        "lost",
        lambda s: s.ran(HAND, supervisor=REAPER).ran(HAND, supervisor=REAPER).by_hand(O.INTERRUPTED).killed(SUPERVISOR),
    ),
}


@pytest.mark.parametrize("build", TRUTHS.values(), ids=TRUTHS)
def test_the_truth_passes(build: Build) -> None:
    assert build(Scene()).verdict() == Verdict()


@pytest.mark.parametrize(("kind", "build"), LIES.values(), ids=LIES)
def test_a_lie_is_found(kind: str, build: Build) -> None:
    assert getattr(build(Scene()).verdict(), kind) != ()


def test_nothing_at_all_is_no_success() -> None:
    assert len(judge([], Told()).idle) == 2


def test_too_few_successes_are_told_and_what_could_not_succeed_is_not_counted() -> None:
    scene = Scene().trigger().says(S.FINISHED, O.INTERRUPTED).killed(SUPERVISOR)
    assert scene.verdict(least=0.5).idle == ()
    assert scene.verdict(least=0.6).idle == ("1 runs have succeeded, of 2 that were triggered and could",)
    assert scene.trigger(action="fails").verdict(least=0.6).idle == ()
    assert scene.trigger(expires=ISSUED + 2).verdict(least=0.6).idle == ()
    assert scene.trigger().stopped(T1).verdict(least=0.6).idle == ()


def test_a_ledger_is_read_as_commands_write_it(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text(f"start {T1} node1 41 40 0\nend -bob node2 43 42 3\n")
    lines: Sequence[Line] = read(tmp_path / "ledger")
    assert [line.key for line in lines] == [(T1, "node1"), ("-bob 42", "node2")]
    assert [line.status for line in lines] == [0, 3]
