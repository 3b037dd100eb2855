"""Alembic steps from an empty database to ``service.records.tables``, up and down."""
