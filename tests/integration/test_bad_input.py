"""What people get wrong, in files and on the command line: one line that names it, a non-zero exit, nothing lost."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoexec.cli.ask import HubSaidNoError, ask
from nanoexec.config import Paths
from nanoexec.model import Order, Trigger
from nanoexec.wire import control, network, stream
from tests.support.fleet import Fleet, assert_one_line, fleet_of, outcomes, wait_until, whoami

pytestmark = pytest.mark.timeout(180)

SOUND = {"nanoexec.hub": ("hub.toml", b"name = 'hub'\n"), "nanoexec.agent": ("agent.toml", b"hub = 'hub'\n")}
FAULTS = {  # what follows, and what must be said of it
    "malformed": (b"publish_port = ", "not valid TOML: Invalid value (at end of document)"),
    "not text": (b"# caf\xe9", "not UTF-8 at byte "),
    "unknown key": (b"beakon_interval = 5", "unknown key beakon_interval"),
    "wrong type": (b"publish_port = '4444'", "publish_port: expected int, got str"),
    "out of range": (b"report_port = 70000", "report_port: expected int <= 65535"),
    "twice": (b"name = 'a'\nname = 'b'", "not valid TOML: Cannot overwrite a value"),
}
GREET = """\
command = ["/bin/echo"]
user = "{user}"
[arguments.name]
pattern = "[a-z]+"
argv = ["hello {{}}"]
"""
# Files of actions.d, by name, and what must be said of each.
MANIFESTS = {
    "malformed": ("command = [", "malformed.toml: not valid TOML"),
    "unknown-key": ("command = ['/bin/true']\nusr = 'x'", "unknown-key.toml: usr: unknown key"),
    "wrong-type": ("command = '/bin/true'", "wrong-type.toml: command: expected"),
    "no-command": ("summary = 'x'", "no-command.toml: command: "),
    "bad-regex": (
        "command = ['/bin/true']\n[arguments.x]\npattern = '['\nargv = ['{}']",
        "bad-regex.toml: arguments.x.pattern: ",
    ),
    "bad-outcome": (
        "command = ['/bin/true']\n[outcome]\nfailed = { output = ['('] }",
        "bad-outcome.toml: outcome.failed.output",
    ),
    "bad-timeout": ("command = ['/bin/true']\ntimeout = 'soon'", "bad-timeout.toml: timeout: "),
    "not-there": ("command = ['/no/such/program']", "not-there.toml: command: there is no program /no/such/program"),
    "no-user": ("command = ['/bin/true']\nuser = 'nobody-of-that-name'", "no-user.toml: user: there is no user"),
}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two nodes; on each ``greet`` is sound."""
    with fleet_of("web1", "web2") as running:
        for node in running.nodes.values():
            node.action("greet", GREET.format(user=whoami()))
        yield running


def start(module: str, root: Path) -> "subprocess.CompletedProcess[str]":
    """A daemon that ends by itself."""
    command = [sys.executable, "-m", module, "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def works(fleet: Fleet) -> bool:
    """Whether everything still does what it is there for."""
    deliveries = fleet.trigger("ALL:greet", "-a", "name=you")
    return outcomes(deliveries) == {"web1": "succeeded", "web2": "succeeded"}


# Files


@pytest.mark.parametrize("module", SOUND)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_configuration_is_one_line_with_file_and_key(tmp_path: Path, module: str, fault: str) -> None:
    name, sound = SOUND[module]
    file = tmp_path / "etc/nanoexec" / name
    file.parent.mkdir(parents=True)
    written, said = FAULTS[fault]
    file.write_bytes(sound + written)
    assert_one_line(start(module, tmp_path), 1, f"{file}: {said}")


def test_without_a_configuration_the_hub_says_where_one_comes_from(tmp_path: Path) -> None:
    said = f"{tmp_path}/etc/nanoexec/hub.toml: not there: `nanoexec hub init --name NAME` writes it"
    assert_one_line(start("nanoexec.hub", tmp_path), 1, said)


@pytest.mark.parametrize("module", ["nanoexec.agent", "nanoexec.runner"])
def test_a_fault_in_what_joining_has_written_is_one_line_with_that_file(tmp_path: Path, module: str) -> None:
    file = tmp_path / "etc/nanoexec/joined.toml"
    file.parent.mkdir(parents=True)
    file.write_text('hub = "hub"\nallow_exec = true\n')
    assert_one_line(start(module, tmp_path), 1, f"{file}: unknown key allow_exec")


def test_every_fault_of_every_manifest_is_one_line_with_file_and_key(fleet: Fleet) -> None:
    node = fleet.nodes["web1"]
    for name, (text, _) in MANIFESTS.items():
        node.action(name, text)
    twice = node.root / "etc/nanoexec/actions.d/twice.toml"
    twice.write_text('name = "greet"\ncommand = ["/bin/false"]\n')
    try:
        done = fleet.run("actions", "check", root=node.root, check=False)
        lines = done.stdout.splitlines()
        said = [said for _, said in MANIFESTS.values()]
        said.append("twice.toml: name: greet is already defined by ")
        assert [part for part in said if sum(part in line for line in lines) != 1] == [], done.stdout
        assert (done.returncode, len(lines), done.stderr) == (1, len(said), "")

        twice.unlink()
        deliveries = fleet.trigger("web1:malformed", status=6)
        assert "malformed.toml: not valid TOML" in deliveries["web1"]["reason"]
        assert works(fleet), "a manifest with a fault withholds its own action and no other"
        node.agent.stop()
        node.agent.start()
        wait_until(lambda: "usr: unknown key" in node.agent.text(), "the agent logs the faults")
    finally:
        for name in MANIFESTS:
            (node.root / f"etc/nanoexec/actions.d/{name}.toml").unlink()
        twice.unlink(missing_ok=True)
        fleet.wait_connected("web1")


def test_an_action_that_two_files_define_is_withheld_since_nobody_knows_which_was_meant(fleet: Fleet) -> None:
    twice = fleet.nodes["web2"].root / "etc/nanoexec/actions.d/again.toml"
    twice.write_text('name = "greet"\ncommand = ["/bin/false"]\n')
    deliveries = fleet.trigger("ALL:greet", status=6)
    assert outcomes(deliveries) == {"web1": "succeeded", "web2": "refused"}
    assert "greet is already defined by" in deliveries["web2"]["reason"]
    twice.unlink()
    assert works(fleet)


# The command line


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("uptime",), 2, "'uptime' is not TARGET:ACTION: write, for example, ALL:slaughter"),
        (("ALL:",), 2, "'ALL:' is not TARGET:ACTION"),
        (("ALL:Up time",), 2, "'Up time' cannot be an action's name: expected small letters"),
        (("ALL:greet", "-a", "name"), 2, "argument 'name': expected KEY=VALUE"),
        (("ALL:greet", "-a", "name=a", "-a", "name=b"), 2, "argument 'name' is given twice"),
        (("ALL:greet", "--expires", "soon"), 2, "'soon' is not a duration"),
        (("ALL:greet", "--expires", "0"), 2, "the duration '0' must be above zero"),
        (("ALL:greet", "--expires", "1w10d1h100w"), 2, "--expires 1w10d1h100w: at most 30 days"),
        (("ALL:greet", "--timeout", "-5"), 2, "'-5' is not a duration"),
        (("web[1-:greet",), 2, "web[1-"),
        (("web[9-1]:greet",), 2, "range '9-1' in a node set goes nowhere"),
        (("web[1-999999999]:greet",), 2, "means more than 100000 nodes"),
        (("@no:greet",), 2, "no"),
        (("web1;reboot:greet",), 2, "target 'web1;reboot' cannot be read"),
        (("db*:greet",), 5, "target 'db*' matches no node"),
        (("db1:greet",), 5, "not on the roster: db1"),
        (("ALL,!web[1-2]:greet",), 5, "matches no node"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) and len(value) == 1 else None,
)
def test_a_trigger_that_cannot_be_meant_is_one_line(
    fleet: Fleet, words: tuple[str, ...], status: int, said: str
) -> None:
    assert_one_line(fleet.run("trigger", *words, check=False), status, "nanoexec: ", said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nonesuch",), "unknown action 'nonesuch'; this node knows: "),
        (("greet", "-a", "nome=you"), "greet: unknown argument 'nome'; it takes: name"),
        (("greet", "-a", "name=You"), "greet: argument name: expected text matching [a-z]+, got 'You'"),
        (("greet", "-a", "name=--help"), "greet: argument name: expected "),
        (("greet", "-a", "name=a\nb"), "greet: argument name: expected one line of text without NUL"),
    ],
)
def test_what_a_node_will_not_run_is_refused_with_its_own_words(
    fleet: Fleet, words: tuple[str, ...], said: str
) -> None:
    deliveries = fleet.trigger(f"ALL:{words[0]}", *words[1:], status=6)
    assert outcomes(deliveries) == {"web1": "refused", "web2": "refused"}
    assert [said in delivery["reason"] for delivery in deliveries.values()] == [True, True], deliveries
    assert all(delivery["run"]["started"] is None for delivery in deliveries.values())


def test_a_program_that_is_not_there_or_cannot_start_says_so(fleet: Fleet) -> None:
    node = fleet.nodes["web1"]
    broken = node.root / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    node.action("absent", f"command = ['/no/such/program']\nuser = '{whoami()}'\n")
    node.action("broken", f"command = ['{broken}']\nuser = '{whoami()}'\n")
    assert "requires /no/such/program, which this node does not have" in refusal(fleet, "web1:absent")
    failed = fleet.trigger("web1:broken", status=3)["web1"]["run"]
    assert failed["outcome"] == "failed"
    assert "No such file or directory" in failed["reason"]


def refusal(fleet: Fleet, what: str) -> str:
    (delivery,) = fleet.trigger(what, status=6).values()
    return str(delivery["reason"])


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("show", "nonesuch"), 2, "nonesuch"),
        (("history", "--since", "yesterday"), 2, "'yesterday' is not a duration"),
        (("nodes", "show", "nonesuch"), 2, "nonesuch"),
        (("nodes", "revoke", "nonesuch"), 2, "no node nonesuch has ever joined"),
        (("nodes", "revoke", "web*"), 2, "'web*' cannot be a node's name: write one"),
        (("history", "--node", "no name"), 2, "'no name' cannot be a node's name"),
        (("history", "--action", "No name"), 2, "'No name' cannot be an action's name"),
        (("overdue", "No name"), 2, "'No name' cannot be an action's name"),
        (("prove", "0", "no name"), 2, "'no name' cannot be a node's name"),
        (("hub", "token", "--ttl", "never"), 2, "'never' is not a duration"),
        (("hub", "token", "--ttl", "31d"), 2, "--ttl 31d: at most 30 days"),
        (("hub", "token", "--node", "web[1-2]"), 2, "'web[1-2]' cannot be a node's name: write one"),
        (("hub", "token", "--node", ""), 2, "'' cannot be a node's name"),
        (("hub", "init", "--name", "no such name"), 2, "'no such name' cannot be a hub's name"),
        (("hub", "init", "--name", "localhost"), 1, "ca.key exists: this hub has an identity"),
        (("agent", "join", "localhost:0", "x"), 2, "'localhost:0' is not HUB:PORT"),
        (("agent", "join", "localhost", "x"), 2, "this is not a join token"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_every_other_command_says_in_one_line_what_it_cannot_do(
    fleet: Fleet, words: tuple[str, ...], status: int, said: str
) -> None:
    assert_one_line(fleet.run(*words, check=False), status, "nanoexec: ", said)


def test_without_a_hub_an_operator_is_told_which_command_starts_one(tmp_path: Path, fleet: Fleet) -> None:
    done = fleet.run("trigger", "ALL:uptime", root=tmp_path, check=False)
    assert_one_line(done, 1, "no hub answers at ", "does `nanoexec hub serve` run here?")


# The control socket


def test_a_signed_trigger_that_has_expired_or_was_issued_by_another_is_refused(fleet: Fleet) -> None:
    now = time.time()
    expired = Trigger(id="0" * 16, action="greet", nodes="ALL", issued=now - 60, expires=now - 1, by=whoami())
    foreign = Trigger(id="1" * 16, action="greet", nodes="ALL", issued=now, expires=now + 60, by="somebody")
    for trigger, said in ((expired, "was not prepared just now"), (foreign, "says that somebody issues it")):
        request = control.Issue(order=Order(body=network.encode_trigger(trigger)), target="ALL")
        with pytest.raises(HubSaidNoError, match=said) as no:
            ask(Paths(root=fleet.root), request)
        assert no.value.exit_code == 6
    assert fleet.run("show", expired.id, check=False).returncode == 2, "nothing of them was kept"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "local message announces"),
        (b"\xff\xff\xff\xff", "local message announces 4294967295 bytes"),
        (b"\0\0\0\x02\x01\xc1", "control request of 2 bytes"),
        (b"\0\0\0\x02\x09\x80", "control request speaks local protocol 9, this side speaks 1"),
        (b"\0\0\0\x0b\x01\x81\xa4kind\xa4boom"[:15], "control request"),
    ],
)
def test_nonsense_on_the_control_socket_is_answered_logged_and_counted(fleet: Fleet, sent: bytes, said: str) -> None:
    before = fleet.status()["counters"].get("control_frames_refused", 0)
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(Paths(root=fleet.root).control_socket))
        raw.sendall(sent)
        header = raw.recv(stream.HEADER, socket.MSG_WAITALL)
        reply = control.decode_reply(raw.recv(stream.length(header), socket.MSG_WAITALL))
    assert isinstance(reply, control.Failed)
    assert said in reply.reason
    assert fleet.status()["counters"]["control_frames_refused"] == before + 1
    assert said in fleet.hub.text()
    assert works(fleet)
