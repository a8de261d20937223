"""The exceptions that the command line shows by their message only."""


class InputError(ValueError):
    """Bad input: the message is one sentence that names the file, field or flag, and the mend.

    The command line prints it without a stack trace and exits with code 2.
    """


class UnfinishedError(RuntimeError):
    """Some parts failed, and the message lists them; all others are done and saved. The exit code is 1."""


class RefusedError(RuntimeError):
    """What was made fails its own check and is not kept; the message says why. The exit code is 1."""
