"""Completion for zsh: one function for each command, in the terms of ``_arguments``."""

import re
from collections.abc import Iterator
from typing import Final

from docs.completion import values
from docs.man.commands import Argument, Command, Option, phrase

_HEAD: Final = """\
#compdef nanoexec nanoexec-run
# zsh completion for nanoexec(1) and nanoexec-run(1). Generated: python -m docs.completion

# The hub must not be able to hang a prompt.
_nanoexec_ask() {
    timeout 10 nanoexec "$@" 2>/dev/null </dev/null
}

_nanoexec_action() {
    local -a found=(${(f)"$(_nanoexec_ask actions list | awk 'NR > 1 { print $1 }')"})
    compadd -a found
}

_nanoexec_node() {
    local -a found=(${(f)"$(_nanoexec_ask nodes list | awk 'NR > 1 { print $1 }')"})
    compadd -a found
}

_nanoexec_target() {
    compadd ALL
    _nanoexec_node
}

_nanoexec_trigger_of() {
    local -a found
    if compset -P '*:'; then
        found=(${(f)"$(_nanoexec_ask nodes list | awk 'NR > 1 && $NF != "-" { gsub(",", "\\n", $NF); print $NF }')"})
        compadd -a found
    else
        found=(ALL ${(f)"$(_nanoexec_ask nodes list | awk 'NR > 1 { print $1 }')"})
        compadd -S : -a found
    fi
}

"""
_TAIL: Final = """\
if [[ $service == nanoexec-run ]]; then
    _nanoexec__nanoexec-run "$@"
else
    _nanoexec__ "$@"
fi
"""
_ACTIONS: Final = {
    "action": "_nanoexec_action",
    "anything": " ",
    "directory": "_files -/",
    "file": "_files",
    "node": "_nanoexec_node",
    "target": "_nanoexec_target",
    "trigger": "_nanoexec_trigger_of",
}


def script(root: Command, run: Command) -> str:
    """The whole file."""
    return _HEAD + "\n".join("\n".join(_function(command)) for command in (*root.all(), run)) + "\n" + _TAIL


def _function(command: Command) -> Iterator[str]:
    yield f"{_name(command)}() {{"
    options = [_option(option) for option in command.options]
    if command.within:
        yield "    local context state state_descr line"
        yield "    typeset -A opt_args"
        yield from _call("-C", [*options, "'1: :->command'", "'*:: :->rest'"])
        yield "    case $state in"
        yield "    command)"
        yield "        local -a commands=("
        yield from (f"            {_quoted(f'{each.words[-1]}:{each.summary}')}" for each in command.within)
        yield "        )"
        yield "        _describe command commands"
        yield "        ;;"
        yield "    rest) case $words[1] in"
        yield from (f"        {each.words[-1]}) {_name(each)} ;;" for each in command.within)
        yield "        esac ;;"
        yield "    esac"
    else:
        yield from _call("-S", [*options, *(_argument(each) for each in command.arguments)])
    yield "}"
    yield ""


def _call(flag: str, specs: list[str]) -> Iterator[str]:
    yield f"    _arguments {flag} \\"
    yield from (f"        {spec} \\" for spec in specs[:-1])
    yield f"        {specs[-1]}"


def _option(option: Option) -> str:
    names = option.names
    excluded = "" if option.repeated else f"({' '.join(names)})" if len(names) > 1 else ""
    kind = values.of_option(option)
    takes = f":{_escaped(option.value)}:{_action(kind)}" if kind else ""
    said = f"[{_escaped(phrase(option.help))}]{takes}"
    spread = f"{{{','.join(names)}}}" if len(names) > 1 else names[0]
    star = "*" if option.repeated else ""
    if len(names) == 1:
        return _quoted(f"{star}{spread}{said}")
    return f"{_quoted(excluded + star) if excluded + star else ''}{spread}{_quoted(said)}"


def _argument(argument: Argument) -> str:
    many = "*" if values.repeats(argument) else ""
    optional = ":" if argument.shown.startswith("[") and not many else ""
    return _quoted(f"{many}:{optional}{_escaped(argument.shown)}:{_action(values.of_argument(argument))}")


def _action(kind: str) -> str:
    return _ACTIONS.get(kind) or f"({kind.replace('|', ' ')})"


def _name(command: Command) -> str:
    return "_nanoexec__" + "_".join(command.words)


def _escaped(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''").replace("`", "") + "'"
