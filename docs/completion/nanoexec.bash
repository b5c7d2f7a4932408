# bash completion for nanoexec(1) and nanoexec-run(1). Generated: python -m docs.completion
# shellcheck shell=bash disable=SC2034 # the table sets what its caller has declared

# What may follow the command $1: commands within it, options, options with a value and its kind, kinds of arguments.
_nanoexec_table() {
    within='' options='' valued='' takes=''
    case $1 in
    '')
        within='trigger exec cancel history show prove overdue run status doctor listen send demo hub agent nodes actions cron'
        options='--version -h --help'
        ;;
    'trigger')
        options='-a --argument --expires --timeout --no-wait --sign -o --output --root -h --help'
        valued='-a=anything --argument=anything --expires=anything --timeout=anything --sign=file -o=text|json|jsonl --output=text|json|jsonl --root=directory'
        takes='trigger'
        ;;
    'exec')
        options='--expires --timeout --no-wait --sign -o --output --root -h --help'
        valued='--expires=anything --timeout=anything --sign=file -o=text|json|jsonl --output=text|json|jsonl --root=directory'
        takes='target anything...'
        ;;
    'cancel')
        options='--nodes --no-wait -o --output --root -h --help'
        valued='--nodes=target -o=text|json|jsonl --output=text|json|jsonl --root=directory'
        takes='anything'
        ;;
    'history')
        options='--node --action --since --limit -o --output --root -h --help'
        valued='--node=node --action=action --since=anything --limit=anything -o=text|json --output=text|json --root=directory'
        ;;
    'show')
        options='-o --output --root -h --help'
        valued='-o=text|json --output=text|json --root=directory'
        takes='anything'
        ;;
    'prove')
        options='-o --output --root -h --help'
        valued='-o=text|json --output=text|json --root=directory'
        takes='anything node'
        ;;
    'overdue')
        options='-o --output --root -h --help'
        valued='-o=text|json --output=text|json --root=directory'
        takes='action'
        ;;
    'run')
        options='-a --argument --root --config -h --help'
        valued='-a=anything --argument=anything --root=directory --config=file'
        takes='action'
        ;;
    'status')
        options='-o --output --root -h --help'
        valued='-o=text|json --output=text|json --root=directory'
        ;;
    'doctor')
        options='-o --output --root -h --help'
        valued='-o=text|json --output=text|json --root=directory'
        ;;
    'listen')
        options='--user --hostname --verbose --allow-exec --root --config -h --help'
        valued='--user=anything --hostname=anything --root=directory --config=file'
        takes='anything'
        ;;
    'send')
        options='--listen --subscribers --within -h --help'
        valued='--listen=anything --subscribers=anything --within=anything'
        takes='anything'
        ;;
    'demo')
        options='--nodes --keep -h --help'
        valued='--nodes=anything'
        ;;
    'hub')
        within='init serve token status backup restore signing-key'
        options='-h --help'
        ;;
    'hub init')
        options='--name --root -h --help'
        valued='--name=anything --root=directory'
        ;;
    'hub serve')
        options='--root --config -h --help'
        valued='--root=directory --config=file'
        ;;
    'hub token')
        options='--node --ttl --uses -o --output --root -h --help'
        valued='--node=node --ttl=anything --uses=anything -o=text|json --output=text|json --root=directory'
        ;;
    'hub status')
        options='-o --output --root -h --help'
        valued='-o=text|json --output=text|json --root=directory'
        ;;
    'hub backup')
        options='--force -o --output --root --config -h --help'
        valued='-o=text|json --output=text|json --root=directory --config=file'
        takes='file'
        ;;
    'hub restore')
        options='--force -o --output --root --config -h --help'
        valued='-o=text|json --output=text|json --root=directory --config=file'
        takes='file'
        ;;
    'hub signing-key')
        options='-h --help'
        takes='file'
        ;;
    'agent')
        within='join serve'
        options='-h --help'
        ;;
    'agent join')
        options='--name --root --config -h --help'
        valued='--name=anything --root=directory --config=file'
        takes='anything anything'
        ;;
    'agent serve')
        options='--root --config -h --help'
        valued='--root=directory --config=file'
        ;;
    'nodes')
        within='list show revoke'
        options='-h --help'
        ;;
    'nodes list')
        options='-o --output --root -h --help'
        valued='-o=text|json --output=text|json --root=directory'
        ;;
    'nodes show')
        options='-o --output --root -h --help'
        valued='-o=text|json --output=text|json --root=directory'
        takes='node'
        ;;
    'nodes revoke')
        options='--root -h --help'
        valued='--root=directory'
        takes='node'
        ;;
    'actions')
        within='list show check'
        options='-h --help'
        ;;
    'actions list')
        options='-o --output --root -h --help'
        valued='-o=text|json --output=text|json --root=directory'
        ;;
    'actions show')
        options='-o --output --root -h --help'
        valued='-o=text|json --output=text|json --root=directory'
        takes='action'
        ;;
    'actions check')
        options='-o --output --root -h --help'
        valued='-o=text|json --output=text|json --root=directory'
        ;;
    'cron')
        within='scan adopt restore arm schedule unschedule status tidy'
        options='-h --help'
        ;;
    'cron scan')
        options='-o --output --root -h --help'
        valued='-o=text|json --output=text|json --root=directory'
        ;;
    'cron adopt')
        options='--line --all --shadow --plan -y --yes --run --root -h --help'
        valued='--line=anything --run=file --root=directory'
        takes='action...'
        ;;
    'cron restore')
        options='--all --plan -y --yes --root -h --help'
        valued='--root=directory'
        takes='action...'
        ;;
    'cron arm')
        options='--all --plan -y --yes --root -h --help'
        valued='--root=directory'
        takes='action...'
        ;;
    'cron schedule')
        options='--every --run --root -h --help'
        valued='--every=anything --run=file --root=directory'
        takes='action anything'
        ;;
    'cron unschedule')
        options='--root -h --help'
        valued='--root=directory'
        takes='action'
        ;;
    'cron status')
        options='-o --output --root -h --help'
        valued='-o=text|json --output=text|json --root=directory'
        ;;
    'cron tidy')
        options='--plan -q --quiet --root -h --help'
        valued='--root=directory'
        ;;
    'nanoexec-run')
        options='-a --argument --root --config --scheduled --shadow -h --help'
        valued='-a=anything --argument=anything --root=directory --config=file'
        takes='action'
        ;;
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
                awk 'NR > 1 && $NF != "-" { gsub(",", "\n", $NF); print $NF }' | sort -u)" "${2##*:}" "${2%:*}:"
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
