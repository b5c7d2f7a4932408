"""What an agent holds for the hub's time when it has slept while the first words of the hub waited for it."""

import pytest

from nanoexec.agent.core import ANSWER_WITHIN
from nanoexec.errors import UnavailableError
from nanoexec.model import DeliveryState
from nanoexec.wire import network
from tests.unit.agent.made import EPOCH, HUB, at, core_of, due, greet, hear, offer, publication

pytestmark = pytest.mark.node


def test_an_order_that_waited_while_the_machine_slept_is_not_run_before_the_hub_has_said_what_time_it_is() -> None:
    core = core_of()
    core.connected(at(0.0))
    core.heard(publication(offer(lifetime=30.0)), at(600.0))  # it came at once, and was read ten minutes later
    assert due(core, 600.0) == []
    greet(core, 600.0, offers=(offer(lifetime=30.0),))
    assert due(core, 600.0) == []
    said = hear(core, 600.0)
    assert isinstance(said, network.Ack)
    assert said.state is DeliveryState.EXPIRED


def test_an_answer_that_is_read_long_after_its_question_is_none() -> None:
    core = core_of()
    core.connected(at(0.0))
    question = core.question(at(0.0))
    assert question is not None
    welcome = network.Welcome(
        node="web1", epoch=EPOCH, sequence=0, time=HUB, interval=15.0, offers=(offer(lifetime=30.0),)
    )
    with pytest.raises(UnavailableError, match="was read 600 s after it was asked for"):
        core.answered(question, network.encode(welcome), at(600.0))
    assert due(core, 600.0) == []
    core.answered(question, network.encode(welcome), at(ANSWER_WITHIN))
    assert core.welcomed
