"""What an admin does to studies, many at once: in pages, each a transaction, written down for the audit."""
