"""Errors of the training package.

TrainingError            a run cannot start or go on
"""


class TrainingError(Exception):
    """The request cannot be carried out, or the run has gone wrong (a loss that is no number)."""
