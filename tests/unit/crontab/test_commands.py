"""Which lines an action takes over, and why it leaves others."""

import pytest

from nanoexec.actions.manifest import Cron, Manifest
from nanoexec.crontab.adoption import adopt
from nanoexec.crontab.commands import Verdict, programs, taken_by
from nanoexec.crontab.lines import Line, parse
from nanoexec.errors import UsageError

pytestmark = pytest.mark.node


def manifest(name: str, command: str, match: str, user: str = "root") -> Manifest:
    return Manifest(name=name, command=tuple(command.split()), cron=Cron(match=match), user=user)


# Three ways of writing an expression: for the simple command, for anything, and for a command with its subcommand.
SLAUGHTER = manifest("slaughter", "/sbin/slaughter", r"^(?:/\S*/)?slaughter(?:\s|$)")
LOOSE = manifest("slaughter", "/sbin/slaughter", r"(^|[\s/])slaughter(\s|$)")
PUPPET = manifest("puppet", "puppet agent -t", r"^(?:/\S*/)?puppet\s+agent(?:\s|$)")
OTHERS = (
    manifest("uptime", "uptime", r"^(?:/\S*/)?uptime(?:\s|$)", "nobody"),
    Manifest(name="plain", command=("plain",)),
)


def line(command: str, *, user: str = "root") -> Line:
    return parse(f"17 * * * * {user} {command}\n".encode(), system=True)[0]


def verdict(command: str, slaughter: Manifest = SLAUGHTER) -> Verdict:
    return taken_by(line(command), (slaughter, PUPPET, *OTHERS))


TAKEN = r"""/sbin/slaughter --delay=300 # comment
slaughter
slaughter >/dev/null 2>&1
slaughter>/dev/null
cd / && /sbin/slaughter
test -x /sbin/slaughter && /sbin/slaughter
[ -x /sbin/slaughter ] && /sbin/slaughter
[ -x /sbin/slaughter ] || exit 0; /sbin/slaughter
if [ -x /sbin/slaughter ]; then /sbin/slaughter; fi
if [ -x /sbin/slaughter ]; then slaughter; else echo gone; fi || mail -s failed root
nice slaughter
nice -n 5 slaughter
nice -19 ionice -c3 slaughter
nice --adjustment 5 slaughter
ionice -c 3 -n 7 slaughter
env A=b slaughter
env -i PATH=/bin slaughter
env -u A slaughter
A=b C="d e" slaughter
export A=b; slaughter
timeout 5m slaughter
timeout -k 10 -s KILL 5m slaughter
timeout --signal=KILL 5m slaughter
flock -n /run/x slaughter
flock -w 10 /run/x slaughter
flock -n /run/x -c 'slaughter --verbose'
( flock -n 9 || exit 1; slaughter ) 9>/run/lock
chronic slaughter
exec /usr/bin/nice /sbin/slaughter
nohup setsid slaughter
stdbuf -oL -e 0 slaughter
systemd-cat -t x slaughter
slaughter 2>&1 | logger -t x
slaughter | tee /tmp/x | mail root
yes | slaughter
slaughter || mail -s failed root </dev/null
(cd / && slaughter) | mail root
(slaughter)
{ slaughter; }
sh -c 'slaughter'
bash -lc "cd /tmp && nice slaughter"
sh -e -o nounset -c slaughter
sleep $((RANDOM \% 900)); slaughter
sleep $(expr $RANDOM \% 60) && slaughter
"slaughter"
sl'aught'er
/usr/bin/perl /sbin/slaughter
. /etc/profile; slaughter
true&&slaughter
! slaughter
slaughter;
slaughter --first && slaughter --second
slaughter --echo puppet
""".splitlines()


@pytest.mark.parametrize("expression", [SLAUGHTER, LOOSE], ids=["anchored", "loose"])
@pytest.mark.parametrize("command", TAKEN)
def test_a_line_that_runs_the_tool_is_taken(command: str, expression: Manifest) -> None:
    assert verdict(command, expression) == Verdict("slaughter", "")


LEFT = {
    "echo slaughter": "mentions",
    "# slaughter": "mentions",
    "date # slaughter": "mentions",
    'echo "a; slaughter"': "mentions",
    "echo a \\; slaughter": "mentions",
    "grep slaughter /var/log/syslog": "mentions",
    "rm -f /var/lock/slaughter": "mentions",
    "/usr/local/bin/slaughter-report": "mentions",
    "man slaughter": "mentions",
    "which slaughter": "mentions",
    "command -v slaughter": "mentions",
    "nosuch --run=slaughter": "mentions",
    "cat < slaughter": "mentions",
    "date > slaughter": "mentions",
    "mail -s 'slaughter ran' root%slaughter": "mentions",
    "sudo slaughter": "sudo starts it",
    "sudo -u root /sbin/slaughter": "sudo starts it",
    "su - root -c slaughter": "su starts it",
    "ssh host slaughter": "ssh starts it",
    r"find / -exec slaughter \;": "find starts it",
    "xargs slaughter < hosts": "xargs starts it",
    "/etc/init.d/slaughter restart": "init script",
    "backup && slaughter": "also runs backup",
    "slaughter && curl https://example.org/ping": "also runs curl",
    "slaughter; backup | gzip > x": "also runs backup, gzip",
    "sudo backup; slaughter": "also runs sudo",
    "sh -c 'backup; slaughter'": "also runs backup",
    "if backup; then slaughter; fi": "also runs backup",
    "slaughter; puppet agent -t": "also runs what puppet runs",
    "slaughter &": "background",
    "slaughter &> /dev/null": "background",
    "for i in 1 2; do slaughter; done": "`for`",
    "while true; do slaughter; done": "`while`",
    "f() { slaughter; }; f": "function",
    "echo $(slaughter)": "command substitution",
    "echo `slaughter`": "command substitution",
    "slaughter 'not closed": "quote",
    "slaughter\r": "carriage return",
    'sh -c \'sh -c "sh -c \\"sh -c slaughter\\""\' slaughter; cat <<x': "here-document",
    "eval slaughter": "mentions",
}


@pytest.mark.parametrize("expression", [SLAUGHTER, LOOSE], ids=["anchored", "loose"])
@pytest.mark.parametrize(("command", "why"), LEFT.items())
def test_a_line_that_does_not_surely_run_the_tool_and_nothing_else_is_left(
    command: str, why: str, expression: Manifest
) -> None:
    found = verdict(command, expression)

    assert (found.action, found.taken) == ("slaughter", False)
    assert why in found.reason


@pytest.mark.parametrize(
    "command", ["/usr/bin/certbot renew", "cd / && run-parts /etc/cron.hourly", "plain", "cat <<x"]
)
def test_a_line_that_has_nothing_to_do_with_any_action_is_nobodys(command: str) -> None:
    assert verdict(command) == Verdict()


def test_the_subcommand_decides_where_the_expression_asks_for_it() -> None:
    assert verdict("/opt/puppetlabs/bin/puppet agent -t").action == "puppet"
    assert verdict("/opt/puppetlabs/bin/puppet agent -t").taken
    assert not verdict("puppet apply site.pp").taken


def test_the_line_must_run_as_the_user_of_the_action() -> None:
    actions = (SLAUGHTER, *OTHERS)

    assert taken_by(line("slaughter", user="adm"), actions).reason == "it runs as adm, and the action as root"
    assert taken_by(line("slaughter", user="adm"), actions, any_user=True).taken
    assert taken_by(line("uptime", user="nobody"), actions).taken


def test_a_line_without_a_user_runs_as_the_owner_of_the_crontab() -> None:
    found = parse(b"17 * * * * slaughter\n", system=False)[0]

    assert taken_by(found, (SLAUGHTER,), owner="root").taken
    assert taken_by(found, (SLAUGHTER,), owner="alice").reason == "it runs as alice, and the action as root"
    assert "unknown user" in taken_by(found, (SLAUGHTER,)).reason


def test_an_adopted_line_says_so() -> None:
    adopted = parse(adopt(line("slaughter"), "slaughter", "/usr/bin/nanoexec-run"), system=True)[0]

    assert taken_by(adopted, (SLAUGHTER, PUPPET)) == Verdict("slaughter", "already adopted")


@pytest.mark.parametrize("raw", [b"# slaughter\n", b"slaughter=1\n", b"\n", b"17 * * slaughter\n"])
def test_a_line_that_is_not_a_job_is_nobodys(raw: bytes) -> None:
    assert taken_by(parse(raw, system=True)[0], (SLAUGHTER,)) == Verdict()


def test_the_shell_of_the_line_decides_what_its_characters_mean() -> None:
    *_, found = parse(b"SHELL=/bin/bash\n17 * * * * root slaughter &> /dev/null\n", system=True)

    assert taken_by(found, (SLAUGHTER,)).taken


def test_programs_come_with_arguments_doubts_and_company() -> None:
    nice, cut = programs(rb"cd /x && nice -n 5 backup --to '/y z' | cut -d, -f1")[1:]

    assert (nice.words, nice.name, nice.company) == (("backup", "--to", "/y z"), "backup", ())
    assert cut.text == "cut -d, -f1"
    assert programs("a; b")[0].company == ("b",)
    assert programs("sh -o noclobber '/x y'")[0].words == ("/x y",)


def test_scripts_in_scripts_are_read_to_a_depth() -> None:
    script = "slaughter"
    for _ in range(6):
        script = "sh -c '" + script.replace("'", "'\\''") + "'"

    with pytest.raises(UsageError, match="nested"):
        programs(script)


def test_no_line_of_the_collection_is_more_than_it_seems(corpus: list[tuple[str, bytes, bool]]) -> None:
    verdicts = [
        taken_by(found, (SLAUGHTER, PUPPET, manifest("updatedb", "updatedb", r"^updatedb\b")), owner="root")
        for _, data, system in corpus
        for found in parse(data, system=system)
    ]

    assert {found.action for found in verdicts if found.taken} == {"updatedb"}
    assert {found.reason for found in verdicts if found.action == "puppet"} == {
        "it mentions puppet, and does not run it"
    }
