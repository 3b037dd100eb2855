"""The records: what the node received, what it made of it, and where that went. The database is the truth."""
