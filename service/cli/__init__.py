"""``litegpt-node``: everything an admin does."""
