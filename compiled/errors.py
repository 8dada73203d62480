"""What can go wrong with a list, whoever made it."""


class TapeError(Exception):
    """Base of all errors of this project."""


class InvalidTape(TapeError):
    """A list is not well formed; the message names instruction, operation and operand."""


class CapacityError(TapeError):
    """A list needs more memory than it may have; the message says how much, and how to raise the limit."""
