"""Errors of the model package.

LiteGPTError
├── RadiographError      this file will never become a radiograph we can read
└── ModelError           this model folder cannot be used
"""


class LiteGPTError(Exception):
    """Base of all errors that ``litegpt`` raises on purpose."""


class RadiographError(LiteGPTError):
    """The object holds no pixels that can be shown as a radiograph; trying again will not help."""


class ModelError(LiteGPTError):
    """The model folder is incomplete, inconsistent or not a model of ours."""


def one_line(error: object) -> str:
    """What an error says, as one line of at most 300 characters; its kind where it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__
