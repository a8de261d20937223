"""Passwords and tokens in URLs: hidden before a command line or a message is written anywhere."""

from __future__ import annotations

import re
from urllib.parse import unquote

MASK = "***"
_URL = re.compile(r"[A-Za-z][\w+.-]*://\S*")
# Up to the last @: a password with an unescaped @, / or ? must not show in part.
_PASSWORD = re.compile(r"^(?P<user>[^:]*://[^:/@?#]*):(?P<password>.*)@", re.DOTALL)
_QUERY = re.compile(r"(?P<key>[?&;][^=&;#]*)=(?P<value>[^&;#]*)")
_SECRET_KEY = re.compile(r"pass|pwd|secret|token|credential|(^|_)key$|api_?key|sig(nature)?$", re.IGNORECASE)
_SECRET_INSIDE = re.compile(r"\b(pwd|password)\s*=", re.IGNORECASE)  # of an ODBC connection in one field


def masked_url(url: str) -> str:
    """``url`` with ``***`` for its password and for the values of fields such as ``?sslpassword=``.

    Everything else stays as it was written, so that a command can be repeated with the secret put back.

    >>> masked_url("postgresql://me:s3cret@db/tune?sslmode=require&sslpassword=x")
    'postgresql://me:***@db/tune?sslmode=require&sslpassword=***'
    """
    return _QUERY.sub(_masked_field, _PASSWORD.sub(rf"\g<user>:{MASK}@", url))


def masked(text: str, url: str | None = None) -> str:
    """``text`` with the secrets of every URL in it hidden, and those of ``url`` wherever they stand."""
    if url is not None:
        text = text.replace(url, masked_url(url))
        for secret in _secrets(url):
            text = text.replace(secret, MASK)
    return _URL.sub(lambda found: masked_url(found[0]), text)


def masked_argument(argument: str) -> str:
    """One argument of a command line, masked from where a URL begins: its password may hold blanks."""
    begin = _URL.search(argument)
    return argument[: begin.start()] + masked_url(argument[begin.start() :]) if begin else argument


def _masked_field(field: re.Match[str]) -> str:
    return f"{field['key']}={MASK}" if _is_secret(field) else field[0]


def _is_secret(field: re.Match[str]) -> bool:
    key, value = unquote(field["key"][1:]), unquote(field["value"])
    return bool(value and (_SECRET_KEY.search(key) or _SECRET_INSIDE.search(value)))


def _secrets(url: str) -> list[str]:
    """Every secret of the URL, as written and decoded, the longest first; none of one or two letters."""
    found = [match["password"] for match in [_PASSWORD.match(url)] if match]
    found += [field["value"] for field in _QUERY.finditer(url) if _is_secret(field)]
    both = {*found, *(unquote(secret) for secret in found)}
    return sorted((secret for secret in both if len(secret) > 2), key=len, reverse=True)
