"""Webhooks: an analysis told by HTTP POST, signed, to a program that is set up for it."""
