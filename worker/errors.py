"""Errors of the workers; they join the node's tree (``service.errors``), which decides on another attempt.

NeverAgain
└── CannotReport         a result cannot be made of the images as they are now
"""

from service.errors import NeverAgain


class CannotReport(NeverAgain):
    """A result cannot be made: an image is gone, damaged, or not what it was; the message is one line."""
