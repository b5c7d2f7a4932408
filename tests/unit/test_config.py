"""The configuration files, and where things lie."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoexec.config import (
    AgentConfig,
    HubConfig,
    Joined,
    Paths,
    daemon_paths,
    format_joined,
    parse_agent,
    parse_hub,
    parse_joined,
)
from nanoexec.errors import ConfigError, UsageError

pytestmark = pytest.mark.node

HUB = PurePosixPath("/etc/nanoexec/hub.toml")
AGENT = PurePosixPath("/etc/nanoexec/agent.toml")
JOINED = PurePosixPath("/etc/nanoexec/joined.toml")
MEMBER = Joined(hub="10.0.0.1", hub_name="hub.example.org", publish_port=1, report_port=65535, name="web1.example.org")


def test_a_hub_needs_no_key_at_all() -> None:
    assert parse_hub(b"", HUB) == HubConfig(
        name=None,
        bind="0.0.0.0",
        publish_port=4444,
        report_port=4445,
        join_port=4446,
        beacon_interval=15.0,
        groups={},
        operators=None,
        history_days=90,
    )


def test_an_agent_needs_no_key_at_all() -> None:
    found = parse_agent(b"", AGENT)
    assert found == AgentConfig(
        hub=None,
        hub_name=None,
        publish_port=4444,
        report_port=4445,
        name=None,
        user="nanoexec",
        allow_exec=False,
        exec_user="root",
        signers=(),
        output_limit=65536,
        journal_days=90,
        runner_idle=30.0,
    )


def test_ad_hoc_commands_are_refused_until_the_node_says_otherwise() -> None:
    assert parse_agent(b'hub = "h"', AGENT).allow_exec is False
    assert parse_agent(b'hub = "h"\nallow_exec = true', AGENT).allow_exec is True


def test_what_joining_decides_survives_being_written_down() -> None:
    assert parse_joined(format_joined(MEMBER), JOINED) == MEMBER


def test_what_joining_decided_holds_where_the_agents_own_file_says_nothing() -> None:
    found = parse_agent(b"allow_exec = true", AGENT, MEMBER)
    assert found == AgentConfig(
        hub="10.0.0.1",
        hub_name="hub.example.org",
        publish_port=1,
        report_port=65535,
        name="web1.example.org",
        allow_exec=True,
    )


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        (b'hub = "nat.example.net"', "hub", "nat.example.net"),
        (b'hub_name = "other"', "hub_name", "other"),
        (b"publish_port = 4444", "publish_port", 4444),  # its default, and yet it was set
        (b"report_port = 7", "report_port", 7),
        (b'name = "web2"', "name", "web2"),
    ],
)
def test_a_key_of_the_agents_own_file_wins_over_what_joining_decided(text: bytes, key: str, value: object) -> None:
    found = parse_agent(text, AGENT, MEMBER)
    assert getattr(found, key) == value
    others = {"hub", "hub_name", "publish_port", "report_port", "name"} - {key}
    assert {other: getattr(found, other) for other in others} == {other: getattr(MEMBER, other) for other in others}


@pytest.mark.parametrize("key", sorted(set(AgentConfig.__struct_fields__) - set(Joined.__struct_fields__)))
def test_joining_may_decide_nothing_of_what_a_node_lets_anybody_do(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^/etc/nanoexec/joined\.toml: unknown key {key}$"):
        parse_joined(format_joined(MEMBER) + f"{key} = 1\n".encode(), JOINED)


@pytest.mark.parametrize("key", Joined.__struct_fields__)
def test_of_what_joining_decides_nothing_may_be_missing(key: str) -> None:
    lines = [line for line in format_joined(MEMBER).splitlines() if not line.startswith(f"{key} ".encode())]
    with pytest.raises(ConfigError, match=rf"^/etc/nanoexec/joined\.toml: key {key} is required$"):
        parse_joined(b"\n".join(lines), JOINED)


def test_every_key_of_a_hub_can_be_set() -> None:
    text = b"""
    name = "hub"
    bind = "::1"
    publish_port = 1
    report_port = 2
    join_port = 0
    beacon_interval = 2
    operators = "wheel"
    history_days = 7
    [groups]
    web = "web[01-20],!web07"
    """
    assert parse_hub(text, HUB) == HubConfig(
        name="hub",
        bind="::1",
        publish_port=1,
        report_port=2,
        join_port=0,
        beacon_interval=2.0,
        operators="wheel",
        history_days=7,
        groups={"web": "web[01-20],!web07"},
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b'name = "hub"\nnane = 1', "unknown key nane"),
        (b'name = "hub"\n[group]\nweb = "a"', "unknown key group"),
        (b'name = "Hub"', "name: expected str matching regex"),
        (b"name = 1", "name: expected str, got int"),
        (b'name = "hub"\npublish_port = "4444"', "publish_port: expected int, got str"),
        (b'name = "hub"\npublish_port = 65536', "publish_port: expected int <= 65535"),
        (b'name = "hub"\npublish_port = true', "publish_port: expected int, got bool"),
        (b'name = "hub"\njoin_port = -1', "join_port: expected int >= 0"),
        (b'name = "hub"\nbind = "a b"', "bind: expected str matching regex"),
        (b'name = "hub"\nbeacon_interval = 0', "beacon_interval: expected float > 0.0"),
        (b'name = "hub"\nbeacon_interval = nan', "beacon_interval: expected float > 0.0"),
        (b'name = "hub"\nbeacon_interval = inf', "beacon_interval: expected float <= 86400.0"),
        (b'name = "hub"\nhistory_days = 0', "history_days: expected int >= 1"),
        (b'name = "hub"\noperators = ""', "operators: expected str matching regex"),
        (b'name = "hub"\n[groups]\nweb = ["a"]', "groups[...]: expected str, got array"),
        (b'name = "hub"\ngroups = "web"', "groups: expected object, got str"),
        (b'name = "hub"\njoin_port = 1979-05-27', "join_port: expected int, got date"),
    ],
)
def test_a_fault_names_the_file_and_the_key(text: bytes, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_hub(text, HUB)
    assert str(caught.value).startswith(f"/etc/nanoexec/hub.toml: {line}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"hub = 1", "hub: expected str, got int"),
        (b'hub = ""', "hub: expected str matching regex"),
        (b'hub = "h"\nsigners = ["a", 1]', "signers[1]: expected str, got int"),
        (b'hub = "h"\nsigners = "a"', "signers: expected array, got str"),
        (b'hub = "h"\nallow_exec = "yes"', "allow_exec: expected bool, got str"),
        (b'hub = "h"\nallow_exec = 1', "allow_exec: expected bool, got int"),
        (b'hub = "h"\noutput_limit = 100', "output_limit: expected int >= 1024"),
        (b'hub = "h"\nuser = "a b"', "user: expected str matching regex"),
        (b'hub = "h"\nname = "WEB1"', "name: expected str matching regex"),
    ],
)
def test_a_fault_in_an_agents_file_names_the_file_and_the_key(text: bytes, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_agent(text, AGENT)
    assert str(caught.value).startswith(f"/etc/nanoexec/agent.toml: {line}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b'hub = "h"\nname = \n', r"not valid TOML: Invalid value \(at line 2, column 8\)"),
        (b'hub = "h"\nhub = "i"\n', "not valid TOML: Cannot overwrite a value"),
        (b'hub = "h\n', "not valid TOML"),
        (b'hub = "h"\nname = "\xff"', "not UTF-8 at byte 18"),
        (b"\xff\xfeh\x00u\x00b\x00", "not UTF-8 at byte 0"),
        (b"hub = " + b"[" * 100_000, "not valid TOML: nested too deeply"),
        (b"hub = " + b"{a=" * 10_000, "not valid TOML: nested too deeply"),
        (b'hub = "h"\nreport_port = ' + b"9" * 5000, "not valid TOML: "),
    ],
)
def test_what_is_no_toml_is_refused_with_file_and_place(text: bytes, line: str) -> None:
    with pytest.raises(ConfigError, match=rf"^/etc/nanoexec/agent\.toml: {line}"):
        parse_agent(text, AGENT)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60) | st.text("hub=\"'[]{}.,\n#\\ 0123456789aexrn+-_:TZ", max_size=40).map(str.encode))
def test_any_bytes_give_a_configuration_or_one_line_that_names_the_file(text: bytes) -> None:
    for parse, file in ((parse_hub, HUB), (parse_agent, AGENT), (parse_joined, JOINED)):
        try:
            parse(text, file)
        except ConfigError as error:
            assert str(error).startswith(f"{file}: ")  # noqa: PT017 - that it may also be valid is the point
            assert "\n" not in str(error)  # noqa: PT017 - as above


def test_a_key_with_a_line_break_in_it_does_not_break_the_line() -> None:
    with pytest.raises(ConfigError, match=r"unknown key") as caught:
        parse_agent(b'hub = "h"\n"a\\nb" = 1', AGENT)
    assert str(caught.value).isprintable()


def test_everything_lies_under_the_root() -> None:
    paths = Paths(root=Path("/scratch"))
    for name in dir(Paths):
        if isinstance(getattr(Paths, name), property):
            assert getattr(paths, name).is_relative_to("/scratch"), name


def test_on_a_real_machine_things_lie_where_the_manual_says() -> None:
    paths = Paths()
    assert paths.hub_config == Path("/etc/nanoexec/hub.toml")
    assert paths.agent_config == Path("/etc/nanoexec/agent.toml")
    assert paths.joined == Path("/etc/nanoexec/joined.toml")
    assert paths.actions == Path("/etc/nanoexec/actions.d")
    assert paths.hub_store == Path("/var/lib/nanoexec/hub/hub.db")
    assert paths.agent_state == Path("/var/lib/nanoexec/agent")
    assert paths.journal == Path("/var/lib/nanoexec/journal/journal.db")
    assert paths.control_socket == Path("/run/nanoexec/hub/control.sock")
    assert paths.runner_socket == Path("/run/nanoexec/runner.sock")
    assert paths.locks == Path("/run/nanoexec/locks")


def test_the_agent_can_write_neither_the_journal_nor_the_hubs_files() -> None:
    """Each lies in a directory of its own, so that each can have its own owner."""
    paths = Paths()
    assert len({paths.hub_state, paths.agent_state, paths.journal.parent}) == 3


def test_a_configuration_file_named_on_the_command_line_is_the_one() -> None:
    paths = Paths(root=Path("/scratch"), config=Path("/elsewhere/a.toml"))
    assert paths.hub_config == paths.agent_config == Path("/elsewhere/a.toml")
    assert paths.joined == Path("/elsewhere/joined.toml")
    assert paths.actions == Path("/scratch/etc/nanoexec/actions.d")


def test_a_daemon_is_told_root_and_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert daemon_paths([]) == Paths()
    assert daemon_paths(["--root", "/r", "--config", "/c.toml"]) == Paths(root=Path("/r"), config=Path("/c.toml"))
    assert daemon_paths(["--config", "c.toml", "--root", "r"]) == Paths(root=tmp_path / "r", config=tmp_path / "c.toml")


@pytest.mark.parametrize("words", [["--root"], ["--root", ""], ["--verbose", "1"], ["/r"], ["--root=/r"], ["-h"]])
def test_a_daemon_refuses_anything_else(words: list[str]) -> None:
    with pytest.raises(UsageError, match="only --root DIR and --config FILE are understood"):
        daemon_paths(words)
