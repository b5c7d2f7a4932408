"""Completion for bash: a table of the commands, and one function that walks the words before the cursor through it."""

from collections.abc import Iterator
from typing import Final

from docs.completion import values
from docs.man.commands import Command

_HEAD: Final = """\
# bash completion for nanoexec(1) and nanoexec-run(1). Generated: python -m docs.completion
# shellcheck shell=bash disable=SC2034 # the table sets what its caller has declared

# What may follow the command $1: commands within it, options, options with a value and its kind, kinds of arguments.
_nanoexec_table() {
    within='' options='' valued='' takes=''
    case $1 in
"""
_TAIL: Final = """\
    esac
}

# The hub must not be able to hang a prompt.
_nanoexec_ask() {
    timeout 10 nanoexec "$@" 2>/dev/null </dev/null
}

# The value $2 of the kind $1. A kind that is none of these is the choices themselves.
_nanoexec_value() {
    case $1 in
    anything) ;;
    file) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$2") ;;
    directory) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -d -- "$2") ;;
    action) _nanoexec_words "$(_nanoexec_ask actions list | awk 'NR > 1 { print $1 }')" "$2" ;;
    node) _nanoexec_words "$(_nanoexec_ask nodes list | awk 'NR > 1 { print $1 }')" "$2" ;;
    target) _nanoexec_words "ALL $(_nanoexec_ask nodes list | awk 'NR > 1 { print $1 }')" "$2" ;;
    trigger)
        if [[ $2 == *:* ]]; then
            _nanoexec_words "$(_nanoexec_ask nodes list |
                awk 'NR > 1 && $NF != "-" { gsub(",", "\\n", $NF); print $NF }' | sort -u)" "${2##*:}" "${2%:*}:"
        else
            compopt -o nospace
            _nanoexec_words "ALL: $(_nanoexec_ask nodes list | awk 'NR > 1 { print $1 ":" }')" "$2"
        fi
        ;;
    *) _nanoexec_words "${1//|/ }" "$2" ;;
    esac
}

# Those of the words $1 that begin with $2, after what stands before them, $3.
_nanoexec_words() {
    mapfile -t COMPREPLY < <(compgen -P "${3-}" -W "$1" -- "$2")
}

# The kind of the value that the option $1 takes, into "expected".
_nanoexec_option() {
    local pair
    for pair in $valued; do
        [[ ${pair%%=*} == "$1" ]] && expected=${pair#*=}
    done
}

_nanoexec() {
    local line=${COMP_LINE:0:COMP_POINT} path='' expected='' place=0 within options valued takes
    local word current before kinds
    # Not COMP_WORDS: readline splits at the colon of a target and at every "=".
    local -a line_words=()
    read -ra line_words <<<"$line"
    [[ $line == *[[:space:]] ]] && line_words+=('')
    current=${line_words[-1]}
    [[ ${line_words[0]##*/} == nanoexec-run ]] && path=nanoexec-run
    _nanoexec_table "$path"
    COMPREPLY=()
    for word in "${line_words[@]:1:${#line_words[@]}-2}"; do
        if [[ $expected ]]; then
            expected=''
        elif [[ $word == -- ]]; then
            return # what follows is somebody else's command
        elif [[ $word == -* ]]; then
            _nanoexec_option "$word"
        elif [[ " $within " == *" $word "* ]]; then
            path+=${path:+ }$word
            _nanoexec_table "$path"
        else
            place=$((place + 1))
        fi
    done
    if [[ $expected ]]; then
        _nanoexec_value "$expected" "$current"
    elif [[ $current == --*=* ]]; then
        _nanoexec_option "${current%%=*}"
        _nanoexec_value "${expected:-anything}" "${current#*=}"
        return
    elif [[ $current == -* ]]; then
        _nanoexec_words "$options" "$current"
    elif [[ $within ]]; then
        _nanoexec_words "$within" "$current"
    else
        read -ra kinds <<<"$takes"
        # The last one may be given again: "action...".
        word=${kinds[place]-}
        [[ ! $word && ${takes} == *... ]] && word=${kinds[-1]}
        _nanoexec_value "${word%...}" "$current"
    fi
    # Readline puts the answer in place of what stands after the colon.
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        before=${current%:*}:
        COMPREPLY=("${COMPREPLY[@]#"$before"}")
    fi
}

complete -F _nanoexec nanoexec nanoexec-run
"""


def script(root: Command, run: Command) -> str:
    """The whole file."""
    return _HEAD + "".join(_row(command) for command in (*root.all(), run)) + _TAIL


def _row(command: Command) -> str:
    return f"    {_quoted(' '.join(command.words))})\n" + "".join(f"        {line}\n" for line in _settings(command))


def _settings(command: Command) -> Iterator[str]:
    if command.within:
        yield f"within={_quoted(' '.join(each.words[-1] for each in command.within))}"
    yield f"options={_quoted(' '.join(name for option in command.options for name in option.names))}"
    valued = [
        f"{name}={kind}" for option in command.options if (kind := values.of_option(option)) for name in option.names
    ]
    if valued:
        yield f"valued={_quoted(' '.join(valued))}"
    if command.arguments:
        kinds = [values.of_argument(each) + "..." * values.repeats(each) for each in command.arguments]
        yield f"takes={_quoted(' '.join(kinds))}"
    yield ";;"


def _quoted(text: str) -> str:
    return f"'{text}'"
