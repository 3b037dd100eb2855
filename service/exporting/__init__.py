"""Findings as a table for others' programs: what its rows are, pseudonyms, and the files they go into."""
