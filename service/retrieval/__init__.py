"""Retrieving old studies from a PACS: what is asked for, finding it, and the retriever that does it."""
