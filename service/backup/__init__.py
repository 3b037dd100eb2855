"""Backups: ``form`` says what is in one; ``writing`` makes, ``reading`` checks, ``restoring`` loads it."""
