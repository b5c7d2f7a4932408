"""Forgetting: what is old and over, a batch at a time; and giving its room back."""

from typing import Final

import sqlalchemy as sa

from nanoexec.store.schema import deliveries, is_open, is_taken_back, nodes, runs, tokens, triggers

BATCH: Final = 500  # rows a statement removes: some ten milliseconds of the writer's lock
PAGES: Final = 500  # pages given back at once, for the same reason
SPARE: Final = 4  # up to one page in so many may stay free: new history needs it soon


def batches(before: float, tokens_before: float | None = None) -> tuple[sa.Delete, ...]:
    """Statements to repeat, one after the other, until each removes nothing. Tokens may have a moment of their own."""
    untold = is_taken_back & (triggers.c.expires >= before)  # its node may still have to hear that it was taken back
    alive = sa.exists().where(
        deliveries.c.trigger == triggers.c.id, is_open | untold | (deliveries.c.updated >= before)
    )
    over = sa.select(triggers.c.id).where(triggers.c.issued < before, ~alive).order_by(triggers.c.issued)
    kept = sa.exists().where(triggers.c.id == runs.c.trigger)  # a trigger is shown with all of its runs or not at all
    old = sa.select(runs.c.node, runs.c.id).where(runs.c.reported < before, ~kept).order_by(runs.c.reported)
    ended = before if tokens_before is None else tokens_before
    used_up = sa.select(tokens.c.digest).where(tokens.c.expires < ended)
    # A trigger takes its deliveries with it: as many as there are nodes, at most.
    # SQLite takes no fraction for a limit, hence the division of integers.
    few = sa.func.max(1, BATCH // sa.func.max(1, sa.select(sa.func.count()).select_from(nodes).scalar_subquery()))
    return (
        sa.delete(triggers).where(triggers.c.id.in_(over.limit(few))),
        sa.delete(runs).where(sa.tuple_(runs.c.node, runs.c.id).in_(old.limit(BATCH))),
        sa.delete(tokens).where(tokens.c.digest.in_(used_up.limit(BATCH))),
    )
