"""The shell's grammar, as far as it is read."""

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoexec.crontab.shell import simple_commands
from nanoexec.errors import UsageError

pytestmark = pytest.mark.node


def words(text: str, shell: str = "/bin/sh") -> list[list[str]]:
    return [[word.text for word in simple.words] for simple in simple_commands(text, shell)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b c", [["a", "b", "c"]]),
        (" \ta\t b ", [["a", "b"]]),
        ("a>x b 2>&1 <y c >>z", [["a", "b", "c"]]),
        ("a > /dev/null 2>&1", [["a"]]),
        ("a 2", [["a", "2"]]),
        ("a2>x", [["a2"]]),
        ("a <<<word b", [["a", "b"]]),
        ("a 'b c' \"d 'e'\" f\\ g", [["a", "b c", "d 'e'", "f g"]]),
        ("a''b \"\"", [["ab", ""]]),
        (r'a "\$x \" \\ \n"', [["a", r'$x " \ \n']]),
        ("a #b", [["a"]]),
        ("a#b c", [["a#b", "c"]]),
        ("a 'b #c' # d", [["a", "b #c"]]),
        ("a; b && c || d | e", [["a"], ["b"], ["c"], ["d"], ["e"]]),
        ("a;b&&c||d|e|&f", [["a"], ["b"], ["c"], ["d"], ["e"], ["f"]]),
        ("a 'x;y' \"p&&q\" r\\|s", [["a", "x;y", "p&&q", "r|s"]]),
        ("(a; b) | c", [["a"], ["b"], ["c"]]),
        ("{ a; b; } >x; c", [["a"], ["b"], ["c"]]),
        ("if a; then b; elif c; then d; else e; fi", [["a"], ["b"], ["c"], ["d"], ["e"]]),
        ("if ! a; then b; fi", [["a"], ["b"]]),
        ("echo if then { }", [["echo", "if", "then", "{", "}"]]),
        ("'if' a", [["if", "a"]]),
        ("a $(b; c 'd)' \")\" (e)) f", [["a", "$(b; c 'd)' \")\" (e))", "f"]]),
        ("a $((1 + (2)))", [["a", "$((1 + (2)))"]]),
        ("a ${b:-c d} $e ~/f", [["a", "${b:-c d}", "$e", "~/f"]]),
        ('a "x $(b "c d") y" z', [["a", 'x $(b "c d") y', "z"]]),
        ("a `b c` d", [["a", "`b c`", "d"]]),
        ("", []),
        ("# only a comment", []),
    ],
)
def test_a_line_falls_into_simple_commands(text: str, expected: list[list[str]]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "inner"),
    [("a $(b c) `d`", ["b c", "d"]), ('a "$(b)$((1))"', ["b"]), ("a '$(b)' ${c}", []), ("a \\$(b)", None)],
)
def test_command_substitutions_are_kept_for_reading(text: str, inner: list[str] | None) -> None:
    if inner is None:
        with pytest.raises(UsageError):
            simple_commands(text)
    else:
        assert [script for simple in simple_commands(text) for word in simple.words for script in word.inner] == inner


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a 'b", "quote"),
        ('a "b', "quote"),
        ("a \\", "backslash"),
        ("a $(b", "expansion"),
        ("a `b", "expansion"),
        ("(a; b", r"lacks a `\)`"),
        ("if a; then b", "lacks a `fi`"),
        ("if a", "lacks a `fi`"),
        ("a; }", "does not expect `}`"),
        ("{ a; )", "does not expect"),
        ("(a) b", "does not expect 'b'"),
        ("for i in a b; do c; done", "`for`"),
        ("while a; do b; done", "`while`"),
        ("case a in b) c;; esac", "`case`"),
        ("f() { a; }; f", "function"),
        ("a & b", "background"),
        ("a &", "background"),
        ("a &> b", "background unless SHELL is bash"),
        ("cat <<EOF", "here-document"),
        ("a <(b)", "not read"),
        ("a > ; b", "not read"),
        ("a\r", "carriage return"),
        ("a ;; b", "`;;`"),
        ('"$(' * 330, "nested"),  # as much as fits into a line of Debian's cron
        ('"$(' * 330 + "a" + ')"' * 330, "nested"),
        ("a " + '"$(' * 30_000, "nested"),
    ],
)
def test_what_is_not_read_is_said(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        simple_commands(text)


def test_bash_redirects_where_sh_puts_into_the_background() -> None:
    assert words("a &> b; c &>> d", "/bin/bash") == [["a"], ["c"]]


ARGUMENT = st.text(st.sampled_from("ab '\"\\$#;&|<>(){}*?~!=\t"), max_size=12)


@given(st.lists(ARGUMENT, min_size=1, max_size=4))
def test_quoted_words_come_out_as_the_shell_would_give_them(arguments: list[str]) -> None:
    quoted = ["'" + argument.replace("'", "'\\''") + "'" for argument in arguments]

    assert words("x " + " ".join(quoted)) == [["x", *arguments]]


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize(
    "arguments",
    [r"a\ b 'c d'\''e' \"f g\"", r'"a\"b\\c\$d\e"', r"""a"b"'c'\d""", "a#b '#c' \\#d #e", "a=b {c} [d] !e ^f"],
)
def test_words_are_the_ones_that_a_real_shell_sees(shell: str, arguments: str) -> None:
    program = shutil.which(shell)
    if not program:
        pytest.skip(f"{shell} is not installed")
    seen = subprocess.run([program, "-c", f"printf '%s\\n' {arguments}"], capture_output=True, check=True, text=True)

    assert words(f"x {arguments}") == [["x", *seen.stdout.splitlines()]]


def test_pipelines_know_what_they_are_part_of_and_what_they_rescue() -> None:
    a, b, c, d, e = simple_commands("(a && b) | c || d; e")

    assert a.pipelines[:-1] == b.pipelines[:-1] == c.pipelines
    assert a.pipelines != b.pipelines
    assert d.rescues == c.pipelines[-1]
    assert e.rescues is None
    assert e.pipelines[-1] not in (*a.pipelines, *b.pipelines, *d.pipelines)
