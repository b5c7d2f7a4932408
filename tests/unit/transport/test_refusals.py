"""Who is barred from dialling, and for how long: only numbers, no clock."""

from random import Random

from nanoexec.agent.service import FIRST_BACKOFF, LAST_BACKOFF
from nanoexec.transport.nng.refusals import BARRED, FORGIVEN, MANY, Refusals
from nanoexec.transport.nng.syn_filter import MOST

HERE, THERE = bytes(4), bytes(15) + b"\1"
HANDSHAKE = 0.01  # seconds, at the least, between two refusals of one that dials without pause


def barred_at(refusals: Refusals, address: bytes, start: float = 0.0) -> float:
    """When one that dials without pause is barred."""
    now = start
    while not refusals.refused(address, now):
        now += HANDSHAKE
        assert now < start + 60
    return now


def refused_agents(agents: int, dice: Random) -> list[float]:
    """When agents that were all revoked at one moment are refused within an hour, by their dials and their probes."""
    times = []
    for _ in range(agents):
        now, failures = 0.0, 0
        while now < 3600:
            times += [now + try_ * HANDSHAKE for try_ in range(3)]
            failures += 1
            now += dice.uniform(0, min(LAST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures, 8)))
    return sorted(times)


def test_who_dials_without_pause_is_barred_within_a_second() -> None:
    refusals = Refusals()
    assert barred_at(refusals, HERE) < 1
    assert refusals.barred == [HERE]


def test_agents_that_are_not_let_in_are_not_barred_nor_who_dials_from_their_address() -> None:
    for seed in range(50):
        refusals = Refusals()
        assert not any(refusals.refused(HERE, now) for now in refused_agents(2, Random(seed)))  # noqa: S311 - dice


def test_ten_such_agents_behind_one_address_are_barred_a_small_part_of_the_time() -> None:
    times = 0
    for seed in range(20):
        refusals = Refusals()
        for now in refused_agents(10, Random(seed)):  # noqa: S311 - dice
            refusals.freed(now)
            times += refusals.refused(HERE, now)
    assert times * BARRED / (20 * 3600) < 0.1


def test_what_is_forgiven_is_forgotten() -> None:
    refusals = Refusals()
    for now in range(1000):
        assert not refusals.refused(HERE, now / FORGIVEN)
    for _ in range(MANY - 1):
        assert not refusals.refused(HERE, 1000 / FORGIVEN)


def test_one_address_does_not_answer_for_another() -> None:
    refusals = Refusals()
    barred_at(refusals, HERE)
    assert not refusals.refused(THERE, 1.0)


def test_an_address_is_barred_for_a_while_and_then_free_and_may_be_barred_again() -> None:
    refusals = Refusals()
    began = barred_at(refusals, HERE)
    assert refusals.next_end == began + BARRED
    assert refusals.freed(began + BARRED - 0.1) == []
    assert refusals.freed(began + BARRED) == [HERE]
    assert (refusals.barred, refusals.next_end) == ([], None)
    assert barred_at(refusals, HERE, began + BARRED) > began + BARRED + MANY * HANDSHAKE / 2


def test_what_is_under_way_when_an_address_is_barred_does_not_count() -> None:
    refusals = Refusals()
    began = barred_at(refusals, HERE)
    assert not any(refusals.refused(HERE, began) for _ in range(10 * MANY))
    assert refusals.freed(began + BARRED) == [HERE]
    assert not refusals.refused(HERE, began + BARRED)


def test_of_too_many_the_oldest_are_free() -> None:
    refusals = Refusals()
    addresses = [number.to_bytes(4, "big") for number in range(MOST + 3)]
    for number, address in enumerate(addresses):
        barred_at(refusals, address, float(number) / 10)
    assert refusals.freed(20.0) == addresses[:3]
    assert refusals.barred == addresses[3:]


def test_any_number_of_addresses_takes_a_bounded_memory() -> None:
    refusals = Refusals()
    for number in range(20_000):  # as many as a hub can refuse in a minute
        refusals.refused(number.to_bytes(4, "big"), number * 0.003)
    assert len(refusals._counts) < 1500
