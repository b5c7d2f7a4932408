"""Changes that are on disk become news for those who wait."""

from nanoexec.hub.watch import Watchers
from nanoexec.model import Delivery, DeliveryState, Output
from nanoexec.record import DeliveryMoved, RunReported
from nanoexec.wire import stream
from nanoexec.wire.control import Progress
from tests.unit.hub.made import id_of, run

S = DeliveryState
T1, T2 = id_of("t1"), id_of("t2")


def moved(trigger: str, node: str, state: DeliveryState, reason: str = "") -> DeliveryMoved:
    return DeliveryMoved(trigger, node, state, 5.0, reason)


def test_a_run_and_the_move_that_it_caused_are_one_piece_of_news() -> None:
    watchers, heard = Watchers(), []
    watchers.add(T1, heard.append)
    watchers.committed([RunReported("web1", run("t1"), 5.0), moved(T1, "web1", S.FINISHED)])
    assert heard == [Progress((Delivery(T1, "web1", S.FINISHED, 5.0, "", run("t1")),))]


def test_what_one_commit_holds_is_told_at_once_and_in_order() -> None:
    watchers, heard = Watchers(), []
    watchers.add(T1, heard.append)
    watchers.committed([moved(T1, "web1", S.SENT), moved(T1, "web2", S.REFUSED, "no such action")])
    both = (Delivery(T1, "web1", S.SENT, 5.0), Delivery(T1, "web2", S.REFUSED, 5.0, "no such action"))
    assert heard == [Progress(both)]


def test_a_run_is_told_with_its_own_node_alone() -> None:
    watchers, heard = Watchers(), []
    watchers.add(T1, heard.append)
    watchers.committed([RunReported("web1", run("t1"), 5.0), moved(T1, "web2", S.RUNNING)])
    assert heard == [Progress((Delivery(T1, "web2", S.RUNNING, 5.0),))]


def test_each_hears_of_its_own_trigger_and_all_who_wait_for_one_hear_the_same() -> None:
    watchers = Watchers()
    one: list[Progress] = []
    other: list[Progress] = []
    third: list[Progress] = []
    watchers.add(T1, one.append)
    watchers.add(T1, other.append)
    watchers.add(T2, third.append)
    watchers.committed([moved(T1, "web1", S.SENT)])
    assert one == other == [Progress((Delivery(T1, "web1", S.SENT, 5.0),))]
    assert third == []


def test_who_has_hung_up_hears_nothing_more_and_the_others_do() -> None:
    watchers = Watchers()
    gone: list[Progress] = []
    waiting: list[Progress] = []
    leaves, stays = gone.append, waiting.append
    watchers.add(T1, leaves)
    watchers.add(T1, stays)
    watchers.remove(T1, leaves)
    watchers.remove(T1, leaves)
    watchers.remove(T2, leaves)
    watchers.committed([moved(T1, "web1", S.SENT)])
    assert gone == []
    assert len(waiting) == 1


def test_one_may_hang_up_while_it_is_told() -> None:
    watchers, heard = Watchers(), []

    def tell(progress: Progress) -> None:
        heard.append(progress)
        watchers.remove(T1, tell)

    watchers.add(T1, tell)
    watchers.committed([moved(T1, "web1", S.SENT)])
    watchers.committed([moved(T1, "web1", S.RUNNING)])
    assert len(heard) == 1


def test_a_fleet_that_prints_much_at_once_is_told_in_messages_that_a_command_line_accepts() -> None:
    watchers, heard = Watchers(), []
    watchers.add(T1, heard.append)
    much = run("t1", output=Output(bytes(500 << 10), bytes(500 << 10), 5 << 20))
    names = [f"web{number}" for number in range(100)]
    watchers.committed(
        [change for name in names for change in (RunReported(name, much, 5.0), moved(T1, name, S.FINISHED))]
    )
    for progress in heard:
        stream.encode(progress)
    assert [delivery.node for progress in heard for delivery in progress.deliveries] == names


def test_who_comes_and_goes_is_told_to_all_who_wait_and_only_when_it_changes() -> None:
    watchers = Watchers()
    one: list[Progress] = []
    other: list[Progress] = []
    watchers.present(["web1", "web2"])
    watchers.add(T1, one.append)
    watchers.add(T2, other.append)
    for here in (["web2", "web1"], ["web2", "web3"], ["web2", "web3"], []):
        watchers.present(here)
    assert one == other == [Progress(away=("web1",), back=("web3",)), Progress(away=("web2", "web3"))]
