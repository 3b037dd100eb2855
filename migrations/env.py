"""Alembic's environment: ``service.records.migrate`` hands over a connection, already in a transaction."""

from alembic import context

from service.records.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
context.run_migrations()
