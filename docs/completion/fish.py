"""Completion for fish: a line for each thing that can stand somewhere."""

from collections.abc import Iterator
from typing import Final

from docs.completion import values
from docs.man.commands import Command, Option, phrase

_HEAD: Final = """\
# fish completion for nanoexec(1) and nanoexec-run(1). Generated: python -m docs.completion

# The words before the cursor that are no options.
function __nanoexec_words
    string match --invert --regex -- '^-' (commandline --tokenize --cut-at-cursor --current-process)[2..-1]
end

# Whether they begin with these: the command line is that of this command.
function __nanoexec_in
    set --local words (__nanoexec_words)
    test (count $words) -ge (count $argv); or return 1
    test (count $argv) -eq 0; or test "$words[1..$(count $argv)]" = "$argv"
end

# Whether they are these and no others: the next word is the name of a command.
function __nanoexec_at
    test "$(__nanoexec_words)" = "$argv"
end

# The hub must not be able to hang a prompt.
function __nanoexec_ask
    timeout 10 nanoexec $argv 2>/dev/null </dev/null
end

function __nanoexec_action
    __nanoexec_ask actions list | awk 'NR > 1 { print $1 }'
end

function __nanoexec_node
    __nanoexec_ask nodes list | awk 'NR > 1 { print $1 }'
end

function __nanoexec_target
    echo ALL
    __nanoexec_node
end

function __nanoexec_trigger
    set --local target (string match --regex -- '^.*:' (commandline --current-token))
    if test -n "$target"
        set --local actions (__nanoexec_ask nodes list |
            awk 'NR > 1 && $NF != "-" { gsub(",", "\\n", $NF); print $NF }' | sort -u)
        printf '%s\\n' $target$actions
    else
        printf '%s:\\n' (__nanoexec_target)
    end
end

complete --command nanoexec --no-files
complete --command nanoexec-run --no-files
"""
_ACTIONS: Final = {
    "action": "(__nanoexec_action)",
    "anything": "",
    "node": "(__nanoexec_node)",
    "target": "(__nanoexec_target)",
    "trigger": "(__nanoexec_trigger)",
}


def script(root: Command, run: Command) -> str:
    """The whole file."""
    lines = [line for command in root.all() for line in _lines(command)]
    return "\n".join([_HEAD, *lines, *_run(run)]) + "\n"


def _lines(command: Command) -> Iterator[str]:
    words = " ".join(command.words)
    for each in command.within:
        condition = _quoted(f"__nanoexec_at {words}".rstrip())
        yield f"complete -c nanoexec -n {condition} -a {each.words[-1]} -d {_quoted(each.summary)}"
    test = "__nanoexec_at" if command.within else "__nanoexec_in"
    inside = f"-c nanoexec -n {_quoted(f'{test} {words}'.rstrip())}"
    yield from (f"complete {inside} {_option(option)}" for option in command.options)
    yield from (f"complete {inside} {given}" for given in _arguments(command))


def _run(run: Command) -> Iterator[str]:
    yield from (f"complete -c nanoexec-run {_option(option)}" for option in run.options)
    yield from (f"complete -c nanoexec-run {given}" for given in _arguments(run))


def _arguments(command: Command) -> Iterator[str]:
    kinds = {values.of_argument(argument) for argument in command.arguments}
    yield from (f"-a {_quoted(_ACTIONS[kind])}" for kind in sorted(kinds) if _ACTIONS.get(kind))
    if kinds & {"file", "directory"}:
        yield "--force-files"


def _option(option: Option) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
    return f"{names}{_value(values.of_option(option))} -d {_quoted(phrase(option.help))}"


def _value(kind: str) -> str:
    if not kind:
        return ""
    if kind == "file":
        return " -r -F"
    if kind == "directory":
        return " -r -a '(__fish_complete_directories)'"
    choices = _ACTIONS.get(kind, kind.replace("|", " "))
    return " -x" + (f" -a {_quoted(choices)}" if choices else "")


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("`", "") + "'"
