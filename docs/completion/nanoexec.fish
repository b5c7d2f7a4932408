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
            awk 'NR > 1 && $NF != "-" { gsub(",", "\n", $NF); print $NF }' | sort -u)
        printf '%s\n' $target$actions
    else
        printf '%s:\n' (__nanoexec_target)
    end
end

complete --command nanoexec --no-files
complete --command nanoexec-run --no-files

complete -c nanoexec -n '__nanoexec_at' -a trigger -d 'Run a named action on nodes now, and show every result'
complete -c nanoexec -n '__nanoexec_at' -a exec -d 'Run an ad-hoc command on nodes'
complete -c nanoexec -n '__nanoexec_at' -a history -d 'Show what ran, newest first, whoever caused it: triggers, cron, people at the keyboard'
complete -c nanoexec -n '__nanoexec_at' -a show -d 'Show one trigger with every node\'s result, or one run'
complete -c nanoexec -n '__nanoexec_at' -a overdue -d 'Show nodes whose fallback schedule has passed without a success, and why'
complete -c nanoexec -n '__nanoexec_at' -a run -d 'Run an action of this node now, as nanoexec-run does'
complete -c nanoexec -n '__nanoexec_at' -a doctor -d 'Examine this machine, hub or node, stage by stage, and say what to do'
complete -c nanoexec -n '__nanoexec_at' -a listen -d 'Run what comes over the original\'s wire, as this node\'s named actions'
complete -c nanoexec -n '__nanoexec_at' -a send -d 'Send one order over the original\'s wire, once its listeners are connected, and say to how many it went'
complete -c nanoexec -n '__nanoexec_at' -a demo -d 'Run a hub and some nodes on this machine, trigger an action, lose a node and see it catch up'
complete -c nanoexec -n '__nanoexec_at' -a hub -d 'The hub on the central host'
complete -c nanoexec -n '__nanoexec_at' -a agent -d 'The agent on a node'
complete -c nanoexec -n '__nanoexec_at' -a nodes -d 'The machines that have joined'
complete -c nanoexec -n '__nanoexec_at' -a actions -d 'The actions that this node knows'
complete -c nanoexec -n '__nanoexec_at' -a cron -d 'Crontab lines as fallbacks: see them, take them over, give them back'
complete -c nanoexec -n '__nanoexec_at' -l version -d 'Show the version'
complete -c nanoexec -n '__nanoexec_at' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in trigger' -s a -l argument -x -d 'An argument of the action; may be given again'
complete -c nanoexec -n '__nanoexec_in trigger' -l expires -x -d 'Nodes that are away get it until then'
complete -c nanoexec -n '__nanoexec_in trigger' -l timeout -x -d 'Stop it after this; a node\'s own manifest may stop it earlier'
complete -c nanoexec -n '__nanoexec_in trigger' -l no-wait -d 'Print the trigger\'s id and return'
complete -c nanoexec -n '__nanoexec_in trigger' -l sign -r -F -d 'Sign with this key, for nodes that run only signed triggers'
complete -c nanoexec -n '__nanoexec_in trigger' -s o -l output -x -a 'text json jsonl' -d 'How to print'
complete -c nanoexec -n '__nanoexec_in trigger' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in trigger' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in trigger' -a '(__nanoexec_trigger)'
complete -c nanoexec -n '__nanoexec_in exec' -l expires -x -d 'Nodes that are away get it until then'
complete -c nanoexec -n '__nanoexec_in exec' -l timeout -x -d 'Stop it after this; a node\'s own manifest may stop it earlier'
complete -c nanoexec -n '__nanoexec_in exec' -l no-wait -d 'Print the trigger\'s id and return'
complete -c nanoexec -n '__nanoexec_in exec' -l sign -r -F -d 'Sign with this key, for nodes that run only signed triggers'
complete -c nanoexec -n '__nanoexec_in exec' -s o -l output -x -a 'text json jsonl' -d 'How to print'
complete -c nanoexec -n '__nanoexec_in exec' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in exec' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in exec' -a '(__nanoexec_target)'
complete -c nanoexec -n '__nanoexec_in history' -l node -x -a '(__nanoexec_node)' -d 'Only this node'
complete -c nanoexec -n '__nanoexec_in history' -l action -x -a '(__nanoexec_action)' -d 'Only this action'
complete -c nanoexec -n '__nanoexec_in history' -l since -x -d 'Only the last so long, such as 2d'
complete -c nanoexec -n '__nanoexec_in history' -l limit -x -d 'At most so many'
complete -c nanoexec -n '__nanoexec_in history' -s o -l output -x -a 'text json' -d 'How to print'
complete -c nanoexec -n '__nanoexec_in history' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in history' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in show' -s o -l output -x -a 'text json' -d 'How to print'
complete -c nanoexec -n '__nanoexec_in show' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in show' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in overdue' -s o -l output -x -a 'text json' -d 'How to print'
complete -c nanoexec -n '__nanoexec_in overdue' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in overdue' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in overdue' -a '(__nanoexec_action)'
complete -c nanoexec -n '__nanoexec_in run' -s a -l argument -x -d 'An argument of the action; may be given again'
complete -c nanoexec -n '__nanoexec_in run' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in run' -l config -r -F -d 'Read this configuration file instead'
complete -c nanoexec -n '__nanoexec_in run' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in run' -a '(__nanoexec_action)'
complete -c nanoexec -n '__nanoexec_in doctor' -s o -l output -x -a 'text json' -d 'How to print'
complete -c nanoexec -n '__nanoexec_in doctor' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in doctor' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in listen' -l user -x -d 'Become this user first'
complete -c nanoexec -n '__nanoexec_in listen' -l hostname -x -d 'Listen for this name, besides ALL; the machine\'s unless given'
complete -c nanoexec -n '__nanoexec_in listen' -l verbose -d 'Say every frame and how every command ends'
complete -c nanoexec -n '__nanoexec_in listen' -l allow-exec -d 'Run what is no action as a shell command'
complete -c nanoexec -n '__nanoexec_in listen' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in listen' -l config -r -F -d 'Read this configuration file instead'
complete -c nanoexec -n '__nanoexec_in listen' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in send' -l listen -x -d 'Where the listeners dial'
complete -c nanoexec -n '__nanoexec_in send' -l subscribers -x -d 'Wait for at least so many'
complete -c nanoexec -n '__nanoexec_in send' -l within -x -d 'Send nothing if they are not here by then'
complete -c nanoexec -n '__nanoexec_in send' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in demo' -l nodes -x -d 'How many nodes to play with'
complete -c nanoexec -n '__nanoexec_in demo' -l keep -d 'Leave the directory with keys, logs and databases for a look'
complete -c nanoexec -n '__nanoexec_in demo' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_at hub' -a init -d 'Make a hub: its certificate authority, its certificate and its configuration'
complete -c nanoexec -n '__nanoexec_at hub' -a serve -d 'Serve nodes and operators until SIGTERM'
complete -c nanoexec -n '__nanoexec_at hub' -a token -d 'Print a join token, for nanoexec agent join on a machine'
complete -c nanoexec -n '__nanoexec_at hub' -a status -d 'Show how the hub is'
complete -c nanoexec -n '__nanoexec_at hub' -a signing-key -d 'Make an Ed25519 key to sign triggers with, and print the line for the nodes\' agent.toml'
complete -c nanoexec -n '__nanoexec_at hub' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in hub init' -l name -x -d 'The name by which nodes reach and check this hub'
complete -c nanoexec -n '__nanoexec_in hub init' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in hub init' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in hub serve' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in hub serve' -l config -r -F -d 'Read this configuration file instead'
complete -c nanoexec -n '__nanoexec_in hub serve' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in hub token' -l node -x -a '(__nanoexec_node)' -d 'Only this node may use it'
complete -c nanoexec -n '__nanoexec_in hub token' -l ttl -x -d 'How long it is good for'
complete -c nanoexec -n '__nanoexec_in hub token' -l uses -x -d 'How many machines may join with it'
complete -c nanoexec -n '__nanoexec_in hub token' -s o -l output -x -a 'text json' -d 'How to print'
complete -c nanoexec -n '__nanoexec_in hub token' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in hub token' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in hub status' -s o -l output -x -a 'text json' -d 'How to print'
complete -c nanoexec -n '__nanoexec_in hub status' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in hub status' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in hub signing-key' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in hub signing-key' --force-files
complete -c nanoexec -n '__nanoexec_at agent' -a join -d 'Make this machine a node: make its key here, check the hub, get a certificate'
complete -c nanoexec -n '__nanoexec_at agent' -a serve -d 'Listen to the hub until SIGTERM'
complete -c nanoexec -n '__nanoexec_at agent' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in agent join' -l name -x -d 'This node\'s name; its FQDN unless given'
complete -c nanoexec -n '__nanoexec_in agent join' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in agent join' -l config -r -F -d 'Read this configuration file instead'
complete -c nanoexec -n '__nanoexec_in agent join' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in agent serve' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in agent serve' -l config -r -F -d 'Read this configuration file instead'
complete -c nanoexec -n '__nanoexec_in agent serve' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_at nodes' -a list -d 'Show every node: is it here, since when, how far is its clock off'
complete -c nanoexec -n '__nanoexec_at nodes' -a show -d 'Show one node: its state, its actions, its last runs'
complete -c nanoexec -n '__nanoexec_at nodes' -a revoke -d 'Shut a node out, at once and for good; to let it in again, have it join with a new token'
complete -c nanoexec -n '__nanoexec_at nodes' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in nodes list' -s o -l output -x -a 'text json' -d 'How to print'
complete -c nanoexec -n '__nanoexec_in nodes list' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in nodes list' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in nodes show' -s o -l output -x -a 'text json' -d 'How to print'
complete -c nanoexec -n '__nanoexec_in nodes show' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in nodes show' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in nodes show' -a '(__nanoexec_node)'
complete -c nanoexec -n '__nanoexec_in nodes revoke' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in nodes revoke' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in nodes revoke' -a '(__nanoexec_node)'
complete -c nanoexec -n '__nanoexec_at actions' -a list -d 'Show every action, and whether this machine has what it needs'
complete -c nanoexec -n '__nanoexec_at actions' -a show -d 'Show one action as its manifests, merged, make it'
complete -c nanoexec -n '__nanoexec_at actions' -a check -d 'Read every manifest and report all that is wrong, with file and key'
complete -c nanoexec -n '__nanoexec_at actions' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in actions list' -s o -l output -x -a 'text json' -d 'How to print'
complete -c nanoexec -n '__nanoexec_in actions list' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in actions list' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in actions show' -s o -l output -x -a 'text json' -d 'How to print'
complete -c nanoexec -n '__nanoexec_in actions show' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in actions show' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in actions show' -a '(__nanoexec_action)'
complete -c nanoexec -n '__nanoexec_in actions check' -s o -l output -x -a 'text json' -d 'How to print'
complete -c nanoexec -n '__nanoexec_in actions check' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in actions check' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_at cron' -a scan -d 'Show every line that cron runs, which action would take it over, and why others would not'
complete -c nanoexec -n '__nanoexec_at cron' -a adopt -d 'Take crontab lines over: cron runs them only when no other run has done their work since the slot before'
complete -c nanoexec -n '__nanoexec_at cron' -a restore -d 'Give adopted lines back: the original bytes, and whatever somebody has changed on them since'
complete -c nanoexec -n '__nanoexec_at cron' -a arm -d 'Have lines that were adopted with --shadow run through nanoexec from now on'
complete -c nanoexec -n '__nanoexec_at cron' -a schedule -d 'Give an action that no crontab line runs a fallback of its own, in /etc/cron.d/nanoexec'
complete -c nanoexec -n '__nanoexec_at cron' -a unschedule -d 'Take away what nanoexec cron schedule gave an action'
complete -c nanoexec -n '__nanoexec_at cron' -a status -d 'Show each fallback: when it is due, whether it still has to run then, and what is no longer as it was left'
complete -c nanoexec -n '__nanoexec_at cron' -a tidy -d 'Remove what nobody needs any more: old backups of crontabs, old runs in the journal'
complete -c nanoexec -n '__nanoexec_at cron' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in cron scan' -s o -l output -x -a 'text json' -d 'How to print'
complete -c nanoexec -n '__nanoexec_in cron scan' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in cron scan' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in cron adopt' -l line -x -d 'This line, whatever it runs and as whom; ACTION takes it over'
complete -c nanoexec -n '__nanoexec_in cron adopt' -l all -d 'The lines of every action'
complete -c nanoexec -n '__nanoexec_in cron adopt' -l shadow -d 'Cron goes on running them; only note what would be done'
complete -c nanoexec -n '__nanoexec_in cron adopt' -l plan -d 'Show what would change, and change nothing'
complete -c nanoexec -n '__nanoexec_in cron adopt' -s y -l yes -d 'Do not ask'
complete -c nanoexec -n '__nanoexec_in cron adopt' -l run -r -F -d 'Where nanoexec-run is, if not beside this program or on the PATH'
complete -c nanoexec -n '__nanoexec_in cron adopt' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in cron adopt' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in cron adopt' -a '(__nanoexec_action)'
complete -c nanoexec -n '__nanoexec_in cron restore' -l all -d 'The lines of every action'
complete -c nanoexec -n '__nanoexec_in cron restore' -l plan -d 'Show what would change, and change nothing'
complete -c nanoexec -n '__nanoexec_in cron restore' -s y -l yes -d 'Do not ask'
complete -c nanoexec -n '__nanoexec_in cron restore' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in cron restore' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in cron restore' -a '(__nanoexec_action)'
complete -c nanoexec -n '__nanoexec_in cron arm' -l all -d 'The lines of every action'
complete -c nanoexec -n '__nanoexec_in cron arm' -l plan -d 'Show what would change, and change nothing'
complete -c nanoexec -n '__nanoexec_in cron arm' -s y -l yes -d 'Do not ask'
complete -c nanoexec -n '__nanoexec_in cron arm' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in cron arm' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in cron arm' -a '(__nanoexec_action)'
complete -c nanoexec -n '__nanoexec_in cron schedule' -l every -x -d 'How often, at a minute that is this node\'s own'
complete -c nanoexec -n '__nanoexec_in cron schedule' -l run -r -F -d 'Where nanoexec-run is, if not beside this program or on the PATH'
complete -c nanoexec -n '__nanoexec_in cron schedule' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in cron schedule' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in cron schedule' -a '(__nanoexec_action)'
complete -c nanoexec -n '__nanoexec_in cron unschedule' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in cron unschedule' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in cron unschedule' -a '(__nanoexec_action)'
complete -c nanoexec -n '__nanoexec_in cron status' -s o -l output -x -a 'text json' -d 'How to print'
complete -c nanoexec -n '__nanoexec_in cron status' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in cron status' -s h -l help -d 'Show the help and exit'
complete -c nanoexec -n '__nanoexec_in cron tidy' -l plan -d 'Show what would be removed, and remove nothing'
complete -c nanoexec -n '__nanoexec_in cron tidy' -s q -l quiet -d 'Say nothing but errors'
complete -c nanoexec -n '__nanoexec_in cron tidy' -l root -r -a '(__fish_complete_directories)' -d 'Everything lies under DIR instead of /'
complete -c nanoexec -n '__nanoexec_in cron tidy' -s h -l help -d 'Show the help and exit'
complete -c nanoexec-run -s a -l argument -x -d 'An argument of the action; may be repeated'
complete -c nanoexec-run -l root -r -a '(__fish_complete_directories)' -d 'Where etc/, var/ and run/ are (default /)'
complete -c nanoexec-run -l config -r -F -d 'The node\'s configuration (default etc/nanoexec/agent.toml under the root)'
complete -c nanoexec-run -l scheduled -d 'ACTION is due by the crontab line that calls this (nanoexec cron adopt makes such lines)'
complete -c nanoexec-run -l shadow -d 'With --scheduled: run nothing, only note what would have been done'
complete -c nanoexec-run -s h -l help -d 'Show this and exit'
complete -c nanoexec-run -a '(__nanoexec_action)'
