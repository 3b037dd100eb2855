"""Errors of the workers; they join the node's tree (``service.errors``), which decides on another attempt.

TryAgain
└── ModelAway            a model cannot be loaded just now
NeverAgain
└── CannotReport         a result cannot be made of the images as they are now
"""

from service.errors import NeverAgain, TryAgain


class ModelAway(TryAgain):
    """A model cannot be loaded; what it is to read waits, and is at no fault."""


class CannotReport(NeverAgain):
    """A result cannot be made: an image is gone, damaged, or not what it was; the message is one line."""
