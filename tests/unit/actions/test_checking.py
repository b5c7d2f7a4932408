import pytest

from nanoexec.actions import Argument, Fallback, Kind, Manifest, OnBusy, Rule, Rules, Source, merge
from nanoexec.actions.checking import check
from nanoexec.fallback import Policy
from nanoexec.model import ActionOffer

pytestmark = pytest.mark.node

SOUND = 'name = "x"\ncommand = ["true"]\n'


def faults_of(text: str) -> list[str]:
    catalog = merge([[Source(file="x.toml", data=text.encode())]])
    assert not catalog.actions or not catalog.faults
    return [str(fault).removeprefix("x.toml: ") for fault in catalog.faults]


def read(text: str) -> Manifest:
    catalog = merge([[Source(file="x.toml", data=text.encode())]])
    assert catalog.faults == ()
    return catalog.actions["x"]


def test_the_shortest_manifest_gets_every_default() -> None:
    manifest = read(SOUND)
    assert manifest == Manifest(name="x", command=("true",))
    assert (manifest.user, manifest.cwd, manifest.on_busy) == ("root", "/", OnBusy.COALESCE)
    assert (manifest.timeout_seconds, manifest.kill_after_seconds) == (3600, 10)
    assert manifest.outcome == Rules(succeeded=Rule(exit=(0,)))


def test_a_full_manifest_is_read_whole() -> None:
    manifest = read("""
        name = "x"
        summary = "Do it"
        homepage = "https://example.com/"
        command = ["/bin/x", "--all"]
        requires = ["/bin/x", "y"]
        user = "nobody"
        cwd = "/tmp"
        env = { LC_ALL = "C" }
        timeout = "1m30s"
        kill_after = "5s"
        on_busy = "refuse"
        [arguments.level]
        type = "integer"
        minimum = 1
        maximum = 9
        default = 5
        help = "how much"
        argv = ["--level", "{}"]
        [arguments.mode]
        type = "choice"
        choices = ["slow", "fast"]
        required = true
        argv = ["--mode={}"]
        [outcome]
        succeeded = { exit = [0, 3] }
        changed = { exit = [3], output = ['^changed'] }
        failed = { output = ['^oops'] }
        [cron]
        match = 'x\\b'
    """)
    assert manifest.timeout_seconds == 90
    assert manifest.arguments["level"].type is Kind.INTEGER
    assert manifest.arguments["mode"] == Argument(
        type=Kind.CHOICE, choices=("slow", "fast"), required=True, argv=("--mode={}",)
    )
    assert manifest.outcome.changed == Rule(exit=(3,), output=("^changed",))
    assert manifest.cron is not None
    assert manifest.cron.match == r"x\b"
    assert manifest.offer == ActionOffer(name="x", summary="Do it", arguments=("level", "mode"))


def test_every_fault_of_a_file_is_reported_at_once() -> None:
    text = """
        name = "x"
        command = ["ok", 3]
        colour = "red"
        timeout = "soon"
        kill_after = 5
        on_busy = "panic"
        [env]
        "A B" = "1"
        C = 2
        [arguments.tags]
        pattern = "["
        help = 3
        argv = ["--tags"]
        [outcome]
        succeeded = { exit = [0, 300] }
        failed = { output = ["fine", "(", "["] }
        changed = []
        [cron]
        match = "*"
    """
    faults = faults_of(text)
    for start in (
        "command[1]: expected str, got int",
        "colour: unknown key; known here: name, summary",
        "timeout: 'soon' is not a duration",
        "kill_after: expected str, got int",
        "on_busy: expected one of coalesce, wait, refuse, got 'panic'",
        "env.A B: expected str matching",
        "env.C: expected str, got int",
        "arguments.tags.pattern: not a valid regular expression",
        "arguments.tags.help: expected str, got int",
        "arguments.tags.argv: needs a template with {}",
        "outcome.succeeded.exit[1]: expected int <= 255",
        "outcome.failed.output[1]: not a valid regular expression",
        "outcome.failed.output[2]: not a valid regular expression",
        "outcome.changed: expected a table, got a list",
        "cron.match: not a valid regular expression",
    ):
        assert len([fault for fault in faults if fault.startswith(start)]) == 1, (start, faults)
    assert len(faults) == 15


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('name = "x"', "command: this key is required"),
        ('name = "x"\ncommand = []', "command: this key is required"),
        ('name = "exec"\ncommand = ["true"]', "name: exec is reserved"),
        ('name = "x"\ncommand = ["bin/true"]', "command[0]: expected an absolute path"),
        ('name = "x"\ncommand = [""]', "command[0]: expected an absolute path"),
        ('name = "x"\ncommand = ["true", "a\\nb"]', "command[1]: expected one line without NUL"),
        ('name = "x"\ncommand = ["true", "a\\u0000b"]', "command[1]: expected one line without NUL"),
        (SOUND + 'requires = ["./here"]', "requires[0]: expected an absolute path"),
        (SOUND + 'requires = ["/bin/a\\u0000"]', "requires[0]: expected one line without NUL"),
        (SOUND + 'cwd = "tmp"', "cwd: expected an absolute path"),
        (SOUND + 'user = "no body"', "user: expected str matching"),
        (SOUND + 'env = { A = "\\u0000" }', "env.A: a variable cannot contain NUL"),
        (SOUND + "outcome = 3", "outcome: expected a table, got a number"),
        (SOUND + "outcome = { succeeded = {} }", "outcome.succeeded: needs exit or output"),
        (SOUND + "outcome = { failed = { output = ['[[a]'] } }", "outcome.failed.output[0]: not a valid regular"),
        (SOUND + "outcome = { failed = { status = [1] } }", "outcome.failed.status: unknown key; known here: exit"),
        (SOUND + "[cron]", "cron.match: this key is required"),
        (SOUND + "[reserve]", "reserve: unknown key"),
        (SOUND + 'arguments.A = { argv = ["{}"] }', "arguments.A: expected str matching"),
        (SOUND + "arguments.a = {}", "arguments.a.argv: this key is required"),
        (SOUND + 'arguments.a = { type = "text", argv = ["{}"] }', "arguments.a.type: expected one of string, integer"),
        (SOUND + 'arguments.a = { argv = ["-a\\n{}"] }', "arguments.a.argv[0]: expected one line"),
        (
            SOUND + 'arguments.a = { type = "boolean", argv = ["--a={}"] }',
            "arguments.a.argv: a boolean has no value to put",
        ),
        (SOUND + 'arguments.a = { pattern = "a{99999999999}", argv = ["{}"] }', "arguments.a.pattern: not a valid"),
        (
            SOUND + 'arguments.a = { type = "integer", pattern = "a", argv = ["{}"] }',
            "arguments.a.pattern: only a string has one",
        ),
        (SOUND + 'arguments.a = { minimum = 1, argv = ["{}"] }', "arguments.a.minimum: only an integer has one"),
        (
            SOUND + 'arguments.a = { type = "integer", minimum = 2, maximum = 1, argv = ["{}"] }',
            "arguments.a.minimum: 2 is above the maximum, 1",
        ),
        (SOUND + 'arguments.a = { choices = ["b"], argv = ["{}"] }', "arguments.a.choices: only a choice has them"),
        (SOUND + 'arguments.a = { type = "choice", argv = ["{}"] }', "arguments.a.choices: only a choice has them"),
        (
            SOUND + 'arguments.a = { type = "choice", choices = ["b", 3], argv = ["{}"] }',
            "arguments.a.choices[1]: expected str, got int",
        ),
        (
            SOUND + 'arguments.a = { type = "choice", choices = ["-b"], argv = ["{}"] }',
            "arguments.a.choices[0]: expected no leading '-'",
        ),
        (
            SOUND + 'arguments.a = { pattern = "b+", default = "c", argv = ["{}"] }',
            "arguments.a.default: expected text matching b+, got 'c'",
        ),
        (SOUND + 'arguments.a = { default = 3, argv = ["{}"] }', "arguments.a.default: expected text, got a number"),
        (
            SOUND + 'arguments.a = { type = "integer", default = true, argv = ["{}"] }',
            "arguments.a.default: expected a whole number, got true",
        ),
        (
            SOUND + 'arguments.a = { type = "integer", maximum = 3, default = 4, argv = ["{}"] }',
            "arguments.a.default: expected a whole number up to 3, got '4'",
        ),
        (
            SOUND + 'arguments.a = { required = true, default = "b", argv = ["{}"] }',
            "arguments.a.default: a required argument has no use for a default",
        ),
    ],
)
def test_a_fault_names_its_key_and_what_was_expected(text: str, fault: str) -> None:
    faults = faults_of(text)
    assert len(faults) == 1, faults
    assert faults[0].startswith(fault)


def test_a_fault_is_one_line_even_when_the_key_is_not() -> None:
    (fault,) = faults_of(SOUND + '"a\\nb" = 1')
    assert "\n" not in fault
    assert r"'a\nb': unknown key" in fault


def test_who_misspells_override_is_told_that_there_is_such_a_key() -> None:
    (fault,) = faults_of(SOUND + 'overide = "replace"')
    assert fault.startswith("overide: unknown key; known here: name, ")
    assert fault.endswith(", fallback, override")


def test_fallback_has_a_policy_and_a_limit_of_its_own() -> None:
    manifest, faults = check(
        {"name": "a", "command": ["true"], "fallback": {"policy": "hub-silent", "timeout": "2h"}}, lambda _: "file"
    )
    assert faults == ()
    assert manifest
    assert manifest.fallback == Fallback(policy=Policy.HUB_SILENT, timeout="2h")
    assert (manifest.fallback.timeout_seconds, Fallback().timeout_seconds) == (7200.0, float("inf"))


@pytest.mark.parametrize(
    ("table", "key", "message"),
    [
        ({"policy": "sometimes"}, "fallback.policy", "expected one of unsatisfied, hub-silent, always, never"),
        ({"timeout": "long"}, "fallback.timeout", "'long' is not a duration"),
        ({"timeout": 5}, "fallback.timeout", "expected str, got int"),
        ({"when": "now"}, "fallback.when", "unknown key; known here: policy, timeout"),
    ],
)
def test_a_fault_in_fallback_names_its_key(table: dict[str, object], key: str, message: str) -> None:
    manifest, (fault,) = check({"name": "a", "command": ["true"], "fallback": table}, lambda _: "file")
    assert (manifest, fault.key, fault.message.startswith(message)) == (None, key, True), fault
