"""That the scale tells a leak from a step, and from what only comes and goes."""

import pytest

from tests.chaos.scale import PARTS, creep, growth, risen

LOOKS = 180


def noisy(looks: int, seed: int) -> list[float]:
    """Around 40 MB, up and down by some pages, in no order that a part of the looks would share."""
    return [40 + 0.05 * scattered(look + 1000 * seed) for look in range(looks)]


def scattered(number: int) -> float:
    """Of 0 to 1, evenly, and far from that of the number before: multiples of the golden ratio."""
    return number * 0.6180339887498949 % 1


@pytest.mark.parametrize("looks", [36, LOOKS, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_a_leak_creeps_by_what_it_grows(looks: int, seed: int) -> None:
    values = [value + 1.6 * look / looks for look, value in enumerate(noisy(looks, seed))]
    assert creep(values) == pytest.approx(1.6 * (PARTS - 1) / PARTS, abs=0.25)
    assert growth(values) == pytest.approx(1.6 * (PARTS - 1) / PARTS, abs=0.1)


@pytest.mark.parametrize("at", [1, 20, 90, 91, 150, 179])
def test_a_step_is_growth_and_does_not_creep(at: int) -> None:
    values = [value + 0.9 * (look >= at) for look, value in enumerate(noisy(LOOKS, seed=at))]
    assert abs(creep(values)) < 0.2
    assert growth(values) == pytest.approx(0.9 if 9 <= at <= 171 else 0.0, abs=0.06)


def test_a_leak_under_a_sawtooth_still_creeps() -> None:
    values = [40 + 0.3 * (look % 7) / 7 + 0.01 * look for look in range(LOOKS)]
    assert creep(values) == pytest.approx(1.6, abs=0.4)


def test_what_comes_and_goes_is_neither() -> None:
    values = [40 + 0.3 * (look % 7) / 7 for look in range(LOOKS)]
    assert abs(creep(values)) < 0.4
    assert abs(growth(values)) < 0.1


def test_descriptors_that_leak_have_risen_and_a_link_that_is_up_more_often_has_not() -> None:
    breaking = [10 + 6 * (scattered(look) < look / LOOKS) for look in range(LOOKS - 1)]
    assert risen([*breaking, 10]) == 0
    assert risen([value + look // 30 for look, value in enumerate(breaking)]) >= 4
