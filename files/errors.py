"""The one exception that means "the user can mend this"."""


class InputError(ValueError):
    """Bad input: the message is one sentence that names the file, field or flag, and the mend.

    The command line prints it without a stack trace and exits with code 2.
    """
