#!/bin/sh
# Records what the real tools print and how they exit, for tests/integration/test_outcome_rules.py.
#
#   apt-get install --no-install-recommends puppet-agent cfengine3 ansible-core git unattended-upgrades dpkg-dev
#   sudo tests/data/outcomes/record.sh [TOOL ...]
#
# Everything happens in a mount and host name space of its own: a scratch /mnt, and overlays over apt's and dpkg's
# directories, so that neither the machine nor its name nor its paths show up in the recordings, and nothing is installed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${RECORDING:-}" ]; then
    exec env -i RECORDING=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt/home LC_ALL=C.UTF-8 unshare --mount --uts -- sh "$0" "$@"
fi
hostname web1.example.com
mount -t tmpfs scratch /mnt
mkdir /mnt/home /mnt/site
cd /mnt/site

# record CASE OUTCOME CHANGED COMMAND...: runs the command as a node would and keeps what it printed and its status.
record() {
    case=$1 outcome=$2 changed=$3
    shift 3
    mkdir -p "$here/$tool"
    status=0
    "$@" > "$here/$tool/$case.out" 2>&1 < /dev/null || status=$?
    python3 - "$here/$tool/$case.json" "$package" "$status" "$outcome" "$changed" "$@" <<'PYTHON'
import json, sys
file, package, status, outcome, changed, *command = sys.argv[1:]
expected = {"outcome": outcome, "changed": json.loads(changed)}
recording = {"package": package, "command": command, "status": int(status), "expected": expected}
with open(file, "w") as opened:
    opened.write(json.dumps(recording, indent=2) + "\n")
PYTHON
    echo "$tool/$case: status $status"
}

from_package() { package=$(dpkg-query -W -f '${Package} ${Version}' "$1"); }

puppet_() {
    from_package puppet-agent
    dirs="--confdir=/mnt/puppet/conf --vardir=/mnt/puppet/var --rundir=/mnt/puppet/run --certname=web1.example.com"
    apply="puppet apply --detailed-exitcodes --color=false $dirs"
    # "puppet apply" shares the exit statuses of "puppet agent" and needs no server.
    # shellcheck disable=SC2086
    {
        file="file { '/mnt/site/motd': ensure => file, content => 'hello' }"
        record changed succeeded true $apply -e "$file"
        record unchanged succeeded false $apply -e "$file"
        record noop succeeded false $apply --noop -e "file { '/mnt/site/issue': ensure => file, content => 'x' }"
        record failed failed null $apply -e "exec { '/bin/false': }"
        record changed-and-failed failed true $apply -e "file { '/mnt/site/hosts': ensure => file } exec { '/bin/false': }"
        record syntax-error failed null $apply -e "file {"
        agent="puppet agent --onetime --no-daemonize --verbose --detailed-exitcodes --no-splay"
        agent="$agent --no-usecacheonfailure --no-show_diff --color=false $dirs"
        record no-server failed null $agent --server=127.0.0.1 --serverport=1 --waitforcert=0
        puppet agent $dirs --disable "under repair"
        record disabled failed null $agent --server=127.0.0.1 --serverport=1 --waitforcert=0
    }
}

cfengine_() {
    from_package cfengine3
    work=/mnt/cfengine
    mkdir -m 700 $work $work/bin $work/inputs $work/modules $work/outputs $work/plugins $work/ppkeys $work/state
    ln -s /usr/bin/cf-promises $work/bin/
    CFENGINE_TEST_OVERRIDE_WORKDIR=$work cf-key > /dev/null
    umask 077
    main='body common control { bundlesequence => { "main" }; }
bundle agent main'
    printf '%s { files: "/mnt/site/motd" create => "true"; }\n' "$main" > file.cf
    printf '%s { reports: "an error: only in a report"; }\n' "$main" > report.cf
    printf '%s { commands: "/bin/false"; }\n' "$main" > command.cf
    printf '%s { files: "/proc/none/motd" create => "true"; }\n' "$main" > impossible.cf
    printf '%s { files: "/mnt/site/issue" create => "true"; commands: "/bin/false"; }\n' "$main" > both.cf
    printf '%s { files: \n' "$main" > syntax.cf
    agent="cf-agent --workdir $work --no-lock --inform --color=never --file"
    # shellcheck disable=SC2086
    {
        record changed succeeded true $agent /mnt/site/file.cf
        record unchanged succeeded false $agent /mnt/site/file.cf
        record report succeeded false $agent /mnt/site/report.cf
        record command-failed failed true $agent /mnt/site/command.cf
        record file-failed failed null $agent /mnt/site/impossible.cf
        record changed-and-failed failed true $agent /mnt/site/both.cf
        record syntax-error failed true $agent /mnt/site/syntax.cf # it wrote a fail-safe policy
        record no-policy failed null $agent /mnt/site/none.cf
    }
    umask 022
}

ansible_pull_() {
    from_package ansible-core
    export ANSIBLE_NOCOLOR=1
    play='- hosts: localhost
  connection: local
  gather_facts: false
  tasks:'
    git init -q repository
    printf '%s\n    - ansible.builtin.debug: {msg: "changed=1"}\n' "$play" > repository/ok.yml
    copy='    - ansible.builtin.copy: {content: hello, dest: /mnt/site/motd}'
    printf '%s\n%s\n' "$play" "$copy" > repository/copy.yml
    printf '%s\n    - ansible.builtin.command: /bin/false\n' "$play" > repository/fail.yml
    printf '%s\n%s\n    - ansible.builtin.command: /bin/false\n' "$play" "${copy%motd\}}issue}" > repository/both.yml
    printf -- '- hosts: [\n' > repository/syntax.yml
    git -C repository add .
    git -C repository -c user.name=a -c user.email=a@example.com commit -qm playbooks
    pull="ansible-pull --url file:///mnt/site/repository --directory /mnt/site/checkout"
    # shellcheck disable=SC2086
    {
        record unchanged succeeded false $pull ok.yml
        record changed succeeded true $pull copy.yml
        record not-updated succeeded false $pull --only-if-changed copy.yml
        record failed failed null $pull fail.yml
        record changed-and-failed failed true $pull both.yml
        record syntax-error failed null $pull syntax.yml
        record no-playbook failed null $pull none.yml
        record no-repository failed null ansible-pull --url file:///mnt/none --directory /mnt/site/none ok.yml
        record no-url failed null ansible-pull
    }
}

# A package of our own in a repository of its own: quick, and the same whatever the machine would upgrade.
toy() { # NAME VERSION FILE DEPENDS
    mkdir -p "build/DEBIAN" "build/usr/share/$3"
    echo "$1 $2" > "build/usr/share/$3/content"
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: a <a@example.com>\nDescription: a toy\n' "$1" "$2" \
        > build/DEBIAN/control
    dpkg-deb --root-owner-group --build build "repository/$1_$2_all.deb" > /dev/null
    rm -r build
}

repository() {
    (
        cd repository
        dpkg-scanpackages --multiversion . > Packages 2> /dev/null
        {
            printf 'Origin: Example\nLabel: Example\nSuite: stable\nCodename: stable\nSHA256:\n'
            printf ' %s %s Packages\n' "$(sha256sum < Packages | cut -d' ' -f1)" "$(wc -c < Packages)"
        } > Release
    )
    apt-get update -qq
}

unattended_upgrades_() {
    from_package unattended-upgrades
    for directory in /var/lib/dpkg /var/lib/apt /var/cache/apt /etc/apt /var/log /usr/share /run; do
        mkdir -p "/mnt/over$directory" "/mnt/work$directory"
        mount -t overlay over -o "lowerdir=$directory,upperdir=/mnt/over$directory,workdir=/mnt/work$directory" $directory
    done
    rm -rf /etc/apt/sources.list /etc/apt/sources.list.d /var/lib/apt/lists/* /var/lib/apt/periodic
    rm -f /var/log/unattended-upgrades/*
    echo "deb [trusted=yes] file:/mnt/site/repository ./" > /etc/apt/sources.list
    cat > /etc/apt/apt.conf.d/99example <<'CONF'
#clear Unattended-Upgrade::Origins-Pattern;
Unattended-Upgrade::Origins-Pattern { "origin=Example"; };
Unattended-Upgrade::Remove-New-Unused-Dependencies "false";
APT::Sandbox::User "root";
CONF
    mkdir -p repository
    toy example-motd 1 motd
    toy example-other 1 other
    dpkg -i repository/*.deb > /dev/null 2>&1
    repository
    record unchanged succeeded false unattended-upgrade --verbose
    toy example-motd 2 motd
    repository
    record changed succeeded true unattended-upgrade --verbose
    toy example-motd 3 other # a file of the other package
    repository
    record failed failed null unattended-upgrade --verbose
    mkfifo held
    python3 -c 'import fcntl, time
lock = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
open("held", "w").close()
time.sleep(600)' &
    holder=$!
    read -r _ < held || true # opens once the lock is held
    record locked failed null unattended-upgrade --verbose
    kill $holder
}

# Slaughter is not in Debian any more. These are its two lines as version 3 prints them, not recordings.
slaughter_() {
    package="none: stands in for slaughter2-client 3"
    record unreachable failed null printf '%s\n' "Failed to fetch policy from server."
    record applied succeeded null printf '%s\n' "Script completed: (return = 0) "
    record policy-failed failed null printf '%s\n' "Script completed: (return = 256) "
    record policy-killed failed null printf '%s\n' "Script completed: (return = 9) "
}

[ $# -gt 0 ] || set -- puppet cfengine ansible-pull unattended-upgrades slaughter
for tool in "$@"; do
    rm -rf "${here:?}/$tool" /mnt/site/*
    "$(echo "$tool" | tr - _)_"
done
