"""What can go wrong with a list, whoever made it."""


class TapeError(Exception):
    """Base of all errors of this project."""


class InvalidTape(TapeError):
    """A list is not well formed; the message names instruction, operation and operand."""


class CapacityError(TapeError):
    """A list needs more memory than it may have; the message says how much, and how to raise the limit."""


class GuardFailed(TapeError):
    """A replay would decide otherwise than the recording did, where recording anew is impossible."""


class WorkspaceCapacityError(CapacityError):
    """The list of a jitted derivative outgrew `tape.workspace_limit`.

    Parameters
    ----------
    needed : int
        Bytes that the list would take.
    """

    def __init__(self, needed):
        super().__init__(f"the list needs {needed} bytes, more than tape.workspace_limit allows or than there are; raise the "
                         "limit, or store less with tape.checkpoint or tape.scan")
