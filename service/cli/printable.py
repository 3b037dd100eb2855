"""Texts from elsewhere, made fit for a terminal."""


def printable(text: str) -> str:
    """The text without control characters, which names of files and values from a network may hold."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
