"""What can go wrong with a list, whoever made it.

Users meet these classes as `tape.…`, so that is what a traceback calls them.
"""


class TapeError(Exception):
    """Base of all errors of this project."""

    __module__ = "tape"


class InvalidTape(TapeError):
    """A list is not well formed; the message names instruction, operation and operand."""

    __module__ = "tape"


class CapacityError(TapeError):
    """A list needs more memory than it may have; the message says how much, and how to raise the limit."""

    __module__ = "tape"


class GuardFailed(TapeError):
    """A replay would decide otherwise than the recording did, where recording anew is impossible."""

    __module__ = "tape"


class WorkspaceCapacityError(CapacityError):
    """The list of a jitted derivative outgrew `tape.workspace_limit`.

    Parameters
    ----------
    needed : int
        Bytes that the list would take.
    """

    __module__ = "tape"

    def __init__(self, needed):
        super().__init__(f"the list needs {needed} bytes, more than tape.workspace_limit allows or than there are; raise the "
                         "limit, or store less with tape.checkpoint or tape.scan")
