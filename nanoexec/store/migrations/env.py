"""Alembic runs this file. The connection, with its transaction, comes from `nanoexec.store.opening`.

To change the schema: change ``schema.py``, add the next number under ``versions/`` and set ``opening.OURS.head``. A
version that was released is never edited.
"""

from alembic import context

from nanoexec.store.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite alters a table by copying it
)
context.run_migrations()
