"""The exceptions whose message is all that the command line shows."""


class InputError(ValueError):
    """Bad input: the message is one sentence that names the file, field or flag, and the mend.

    The command line prints it without a stack trace and exits with code 2.
    """


class UnfinishedError(RuntimeError):
    """What could be done is done and kept; the message lists what broke. The exit code is 1."""
