"""Errors of the workers; they join the node's tree (``service.errors``), which decides on another attempt.

NeverAgain
└── NothingReadable      no image of the analysis could be read
"""

from service.errors import NeverAgain


class NothingReadable(NeverAgain):
    """None of an analysis's images could be read; the message says why for each."""
