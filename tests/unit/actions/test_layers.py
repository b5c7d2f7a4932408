import pytest

from nanoexec.actions import Catalog, Source, merge
from nanoexec.errors import RefusedError

pytestmark = pytest.mark.node

SHIPPED = Source(
    file="shipped/x.toml",
    data=b"""
        name = "x"
        command = ["x", "--quiet"]
        timeout = "5m"
        env = { A = "1", B = "2" }
        [arguments.tags]
        argv = ["--tags={}"]
        pattern = "[a-z]+"
        [outcome]
        failed = { exit = [1], output = ["oops"] }
    """,
)


def own(text: str, file: str = "own/x.toml") -> Source:
    return Source(file=file, data=text.encode())


def laid_over(text: str) -> Catalog:
    return merge([[SHIPPED], [own(text)]])


def test_a_layer_changes_what_it_names_and_keeps_the_rest() -> None:
    manifest = laid_over("""
        name = "x"
        command = ["/opt/x"]
        env = { B = "3", C = "4" }
        arguments.tags.pattern = "[0-9]+"
        outcome.failed.exit = []
    """).find("x")
    assert manifest.command == ("/opt/x",)
    assert manifest.timeout == "5m"
    assert manifest.env == {"A": "1", "B": "3", "C": "4"}
    assert manifest.arguments["tags"].pattern == "[0-9]+"
    assert manifest.arguments["tags"].argv == ("--tags={}",)
    assert (manifest.outcome.failed.exit, manifest.outcome.failed.output) == ((), ("oops",))


def test_a_replacing_layer_starts_anew() -> None:
    manifest = laid_over('name = "x"\noverride = "replace"\ncommand = ["other"]').find("x")
    assert manifest.command == ("other",)
    assert (manifest.timeout, manifest.env, manifest.arguments) == ("1h", {}, {})


def test_an_override_of_another_kind_is_a_fault() -> None:
    catalog = laid_over('name = "x"\noverride = true')
    assert [str(fault) for fault in catalog.faults] == [
        "own/x.toml: override: expected merge or replace, got 'True'",
    ]
    assert catalog.actions == {}


def test_a_file_that_only_overrides_is_complete_once_merged() -> None:
    text = 'name = "x"\ntimeout = "2h"'
    assert laid_over(text).find("x").timeout == "2h"
    alone = merge([[], [own(text)]])
    assert [str(fault) for fault in alone.faults] == [
        "own/x.toml: command: this key is required: the program, then its arguments",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('name = "x"\ntimeout = "soon"', "own/x.toml: timeout: 'soon'"),
        ('name = "x"\narguments.tags.default = "UP"', "own/x.toml: arguments.tags.default: "),
        ('name = "x"\narguments.tags.type = "integer"', "shipped/x.toml: arguments.tags.pattern: only a string"),
        ('name = "x"\n[arguments.more]\nhelp = "?"', "own/x.toml: arguments.more.argv: this key is required"),
        ('name = "x"\nenv = 3', "own/x.toml: env: expected a table"),
        ('name = "x"\noutcome.failed.output = ["("]', "own/x.toml: outcome.failed.output[0]: not a valid"),
        ('name = "x"\n[outcome.failed.exit.deep.deeper.deepest]\nend = 1', "own/x.toml: outcome.failed.exit: expected"),
    ],
)
def test_a_fault_names_the_file_that_supplied_the_key(text: str, fault: str) -> None:
    catalog = laid_over(text)
    assert [str(found).startswith(fault) for found in catalog.faults] == [True], catalog.faults
    assert catalog.actions == {}
    assert catalog.sources == {"x": ("shipped/x.toml", "own/x.toml")}


def test_two_files_of_one_layer_cannot_define_the_same_action() -> None:
    sound = own('name = "y"\ncommand = ["true"]', "own/y.toml")
    again = own('name = "y"\ncommand = ["false"]', "own/z.toml")
    catalog = merge([[SHIPPED], [sound, again]])
    assert [str(fault) for fault in catalog.faults] == [
        "own/z.toml: name: y is already defined by own/y.toml: keep one of them",
    ]
    assert list(catalog.actions) == ["x"]


def test_a_faulty_action_is_left_out_and_the_others_work() -> None:
    catalog = merge([[SHIPPED, own('name = "y"\ncommand = 3', "shipped/y.toml")]])
    assert list(catalog.actions) == ["x"]
    with pytest.raises(
        RefusedError, match=r"^action y has a faulty manifest: shipped/y\.toml: command: expected array, got int$"
    ):
        catalog.find("y")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff", "not UTF-8 at byte 0"),
        (b"name = ", "not valid TOML: "),
        (b"a = " + b"9" * 5000, "not valid TOML: "),
        (b"a = " + b"[" * 100_000, "not valid TOML: nested too deeply"),
        (b"", "name: this key is required"),
        (b'name = "X"', "name: expected a name of small letters"),
        (b"name = 3", "name: expected a name of small letters"),
    ],
)
def test_an_unreadable_file_withholds_the_action_it_is_named_after(data: bytes, message: str) -> None:
    catalog = merge([[SHIPPED], [Source(file="own/x.toml", data=data)]])
    (fault,) = catalog.faults
    assert str(fault).startswith(f"own/x.toml: {message}")
    assert catalog.actions == {}
    with pytest.raises(RefusedError, match=r"own/x\.toml"):
        catalog.find("x")


def test_tables_nested_without_end_are_a_fault_and_not_a_crash() -> None:
    deep = "outcome." + ".".join("a" for _ in range(5000))
    catalog = laid_over(f'name = "x"\n{deep} = 1')
    assert [str(fault).partition(";")[0] for fault in catalog.faults] == ["own/x.toml: outcome.a: unknown key"]


def test_an_unknown_action_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(RefusedError, match=r"^unknown action 'y\\n'; this node knows: x$"):
        merge([[SHIPPED]]).find("y\n")
    with pytest.raises(RefusedError, match="knows: none"):
        merge([]).find("y")


def test_only_the_wanted_action_is_checked() -> None:
    faulty = own('name = "y"\ncommand = 3', "shipped/y.toml")
    catalog = merge([[SHIPPED, faulty]], only="x")
    assert list(catalog.actions) == ["x"]
    assert catalog.faults == ()
    assert list(merge([[SHIPPED, faulty]], only="y").actions) == []
