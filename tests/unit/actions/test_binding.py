import pytest

from nanoexec.actions import Argument, Kind, Manifest, bind, parse_pairs
from nanoexec.errors import RefusedError, UsageError

pytestmark = pytest.mark.node

MANIFEST = Manifest(
    name="x",
    command=("/bin/x", "--literal={}"),
    arguments={
        "tags": Argument(argv=("--tags", "{}")),
        "level": Argument(type=Kind.INTEGER, minimum=-1, maximum=9, argv=("--level={}",)),
        "force": Argument(type=Kind.BOOLEAN, argv=("--force", "--really")),
        "mode": Argument(type=Kind.CHOICE, choices=("slow", "fast"), default="slow", argv=("--mode={}", "{}")),
        "free": Argument(pattern=r"(?s).*", argv=("--free={}",)),
    },
)


def test_arguments_are_appended_in_the_manifests_order() -> None:
    given = {"mode": "fast", "force": "true", "level": "-1", "tags": "a,b"}
    assert bind(MANIFEST, given) == (
        *("/bin/x", "--literal={}", "--tags", "a,b", "--level=-1", "--force", "--really", "--mode=fast", "fast"),
    )


def test_what_is_not_given_adds_nothing_but_a_default() -> None:
    assert bind(MANIFEST, {}) == ("/bin/x", "--literal={}", "--mode=slow", "slow")
    assert bind(MANIFEST, {"force": "false"}) == bind(MANIFEST, {})


def test_defaults_of_every_type_are_bound_and_can_be_overruled() -> None:
    manifest = Manifest(
        name="x",
        command=("x",),
        arguments={
            "n": Argument(type=Kind.INTEGER, default=3, argv=("-n{}",)),
            "b": Argument(type=Kind.BOOLEAN, default=True, argv=("-b",)),
        },
    )
    assert bind(manifest, {}) == ("x", "-n3", "-b")
    assert bind(manifest, {"n": "0", "b": "false"}) == ("x", "-n0")


def test_a_value_stays_one_element_whatever_a_shell_would_make_of_it() -> None:
    nasty = "$(reboot); `id` | \"q\" '{}' * ~ && \\"
    assert bind(MANIFEST, {"free": nasty})[-1] == f"--free={nasty}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tag": "a"}, "x: unknown argument 'tag'; it takes: tags, level, force, mode, free"),
        ({"tags": "a b"}, "x: argument tags: expected text matching [A-Za-z0-9_.,:/@+=-]{1,256}, got 'a b'"),
        ({"tags": ""}, "x: argument tags: expected text matching"),
        ({"tags": "a" * 257}, "x: argument tags: expected text matching"),
        ({"tags": "-rf"}, "x: argument tags: expected no leading '-', which the command would read as an option"),
        ({"level": "10"}, "x: argument level: expected a whole number from -1 up to 9, got '10'"),
        ({"level": "-2"}, "x: argument level: expected a whole number"),
        ({"level": "1.0"}, "x: argument level: expected a whole number"),
        ({"level": "٣"}, "x: argument level: expected a whole number"),
        ({"level": "9" * 4000}, "x: argument level: expected a whole number"),
        ({"force": "yes"}, "x: argument force: expected true or false, got 'yes'"),
        ({"mode": "medium"}, "x: argument mode: expected one of slow, fast, got 'medium'"),
        ({"free": "a\0b"}, "x: argument free: expected one line of text without NUL, got 'a\\x00b'"),
        ({"free": "a\nb"}, "x: argument free: expected one line of text without NUL"),
        ({"free": "a\rb"}, "x: argument free: expected one line of text without NUL"),
        ({"free": "\udcff"}, "x: argument free: expected one line of text without NUL"),
        ({"free": "a" * 4097}, "x: argument free: expected at most 4096 characters, got 4097"),
    ],
)
def test_a_refusal_names_the_argument_and_what_was_expected(given: dict[str, str], message: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        bind(MANIFEST, given)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_a_required_argument_must_be_given() -> None:
    manifest = Manifest(name="x", command=("x",), arguments={"a": Argument(required=True, argv=("{}",))})
    with pytest.raises(RefusedError, match="argument a is required: text matching"):
        bind(manifest, {})
    with pytest.raises(RefusedError, match="it takes: none"):
        bind(Manifest(name="x", command=("x",)), {"a": "b"})


def test_pairs_are_divided_at_the_first_equals_sign() -> None:
    assert parse_pairs(["a=1", "b=", "c=x=y"]) == {"a": "1", "b": "", "c": "x=y"}


@pytest.mark.parametrize("pairs", [["a"], ["=1"], [""], ["a=1", "a=2"]])
def test_a_pair_that_cannot_be_meant_is_a_usage_error(pairs: list[str]) -> None:
    with pytest.raises(UsageError, match="argument"):
        parse_pairs(pairs)
