"""How often cron starts each action of this node by itself: the hub judges by it what is overdue.

Imported only by the child that describes the node: a crontab is none of the runner's other business.
"""

from collections import defaultdict

from nanoexec.config import Paths
from nanoexec.crontab.adoption import adopted
from nanoexec.crontab.places import system_crontabs
from nanoexec.crontab.scan import unjournaled
from nanoexec.crontab.spool import user_crontabs
from nanoexec.errors import UsageError
from nanoexec.schedule import Schedule, longest_gap


def intervals(paths: Paths, now: float) -> dict[str, float]:
    """By action, the longest time between two slots of its lines (seconds).

    A line in the shadow does not count: what it runs is not in the journal. Neither does one that cron ignores, or that
    never fires, or fires at boot; nor what a user has written like an adopted line, whose runs nobody can journal.
    """
    schedules: defaultdict[str, list[Schedule]] = defaultdict(list)
    for crontab in (*system_crontabs(paths), *user_crontabs(paths, as_they_lie=True)):
        for line in () if crontab.ignored else crontab.lines:
            known = adopted(line)
            if not known or known.shadow or unjournaled(paths, line.user or crontab.owner):
                continue
            if schedule := _parsed(line.schedule):
                schedules[known.action].append(schedule)
    gaps = {action: longest_gap(several, now) for action, several in schedules.items()}
    return {action: float(gap) for action, gap in gaps.items() if gap is not None}


def _parsed(expression: str) -> Schedule | None:
    try:
        return Schedule.parse(expression)
    except UsageError:  # one cron or another reads it, and never fires
        return None
