"""The one exception that means "the user can mend this"."""

from files.errors import InputError

__all__ = ["InputError"]
