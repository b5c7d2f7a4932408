"""Forgetting: what is old and over, a batch at a time."""

from typing import Final

import sqlalchemy as sa

from nanoexec.store.schema import deliveries, is_open, runs, tokens, triggers

BATCH: Final = 500  # rows a statement removes: some ten milliseconds of the writer's lock


def batches(before: float) -> tuple[sa.Delete, ...]:
    """Statements to repeat, one after the other, until each removes less than `BATCH`."""
    alive = sa.exists().where(deliveries.c.trigger == triggers.c.id, is_open | (deliveries.c.updated >= before))
    over = sa.select(triggers.c.id).where(triggers.c.issued < before, ~alive).order_by(triggers.c.issued)
    kept = sa.exists().where(triggers.c.id == runs.c.trigger)  # a trigger is shown with all of its runs or not at all
    old = sa.select(runs.c.node, runs.c.id).where(runs.c.reported < before, ~kept).order_by(runs.c.reported)
    used_up = sa.select(tokens.c.digest).where(tokens.c.expires < before)
    return (
        sa.delete(triggers).where(triggers.c.id.in_(over.limit(BATCH))),
        sa.delete(runs).where(sa.tuple_(runs.c.node, runs.c.id).in_(old.limit(BATCH))),
        sa.delete(tokens).where(tokens.c.digest.in_(used_up.limit(BATCH))),
    )
