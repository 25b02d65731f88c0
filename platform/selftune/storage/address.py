"""What may be said of a tracking server's address: no user, no password, no token, wherever they stand in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:)(?P<slashes>/*)(?P<rest>.*)", re.DOTALL)
_OF_FILES = ("sqlite", "file")  # what follows is a path, in which an @ is an @
_HARMLESS = re.compile(  # settings of connections that are no secret
    r"(?:timeout|connect_timeout|sslmode|charset|driver|check_same_thread|mode|cache|uri|schema)=[\w .%+-]*"
)
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]*[^\s'\"<>.,;:!?)\]]")
_ENVIRONMENT = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_WORTH_A_SEARCH = 4  # characters: a shorter secret is found as a whole word alone, or every "a" would be hidden


def without_password(address: str) -> str:
    """The address with everything left out that can be a secret, for messages, records and the command line.

    What stands before the last ``@`` goes, because a token may be the user and a password may hold an ``@`` or a
    ``/``; so do the values behind a ``?`` that are not known to be harmless. Rather too much than too little:
    nothing is left of an address with an ``@`` behind a ``?`` or a ``#``, for these may be a password's, too.

    >>> without_password("postgresql://me:secret@db/runs?sslmode=require")
    'postgresql://***@db/runs?sslmode=require'
    >>> without_password("https://server/api?token=secret")
    'https://server/api?token=***'
    """
    scheme, slashes, rest = _parts(address)
    user, at, rest = _user(scheme, rest)
    if re.search(r"[?#]", user):
        return f"{scheme}{slashes}{HIDDEN}"
    path, mark, query = rest.partition("?")
    if not scheme.startswith(_OF_FILES):
        path, fragment, _ = path.partition("#")
        path += f"#{HIDDEN}" if fragment else ""
    shown = "&".join(_setting(one) for one in query.split("&")) if query else ""
    return f"{scheme}{slashes}{HIDDEN if at else user}{at}{path}{mark}{shown}"


def hide(text: str, address: str) -> str:
    """A text about the address, such as an error of the library that was given it, without what is secret there.

    >>> hide('login failed for "me" with "s3cret" at http://me:s3cret@server', "http://me:s3cret@server")
    'login failed for "***" with "***" at http://***@server'
    """
    text = text.replace(address, without_password(address))
    text = _IN_TEXT.sub(lambda found: without_password(found[0]), text)
    for secret, everywhere in sorted(_secrets(address), key=lambda one: -len(one[0])):
        pattern = re.escape(secret)
        if not everywhere or len(secret) < _WORTH_A_SEARCH:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        text = re.sub(pattern, HIDDEN, text)
    return text


def is_whole(address: str) -> bool:
    """Whether nothing was left out of an address, so that it leads to the server."""
    return HIDDEN not in address


def _parts(address: str) -> tuple[str, str, str]:
    found = _ADDRESS.fullmatch(address)
    if found is None or (found["slashes"] == "" and found["scheme"].rstrip(":") not in _OF_FILES):
        return "", "", address  # a path, or user:password@host with the scheme forgotten
    return found["scheme"], found["slashes"], found["rest"]


def _user(scheme: str, rest: str) -> tuple[str, str, str]:
    """User, with password, and the ``@`` and what follows; no user, nothing and all where there is no ``@``."""
    before, at, after = rest.rpartition("@")
    is_path = scheme.startswith(_OF_FILES) or (not scheme and ":" not in before)
    return ("", "", rest) if is_path or not at else (before, at, after)


def _setting(text: str) -> str:
    if _HARMLESS.fullmatch(text):
        return text
    name, equals, _ = text.partition("=")
    return f"{name}={HIDDEN}" if equals else HIDDEN


def _secrets(address: str) -> Iterator[tuple[str, bool]]:
    """Every secret of the address in every way it may be written, and whether to look for it within words, too.

    Pieces of secrets count, because a library that takes an address apart in another way says one of those. A
    user's name may be that of the database as well, and is often part of other words.
    """
    scheme, _, rest = _parts(address)
    user, _, rest = _user(scheme, rest)
    if re.search(r"[?#]", user):
        user, rest = f"{user}@{rest}", ""
    name, _, password = user.partition(":")
    path, _, query = rest.partition("?")
    settings = [one for one in query.split("&") if not _HARMLESS.fullmatch(one)]
    values = [one.partition("=")[2] or one for one in settings]
    fragment = "" if scheme.startswith(_OF_FILES) else path.partition("#")[2]
    for secret in _spellings(name):
        yield secret, False
    for secret in (user, password, fragment, *values, *(os.environ.get(one, "") for one in _ENVIRONMENT)):
        for written in _spellings(secret):
            yield written, True
            for piece in re.split(r"\W+", written):
                if len(piece) >= _WORTH_A_SEARCH and piece != name:
                    yield piece, True


def _spellings(secret: str) -> set[str]:
    plain = {secret, unquote(secret), unquote_plus(secret)}
    found = plain | {quote(one, safe="") for one in plain} | {quote_plus(one) for one in plain}
    return found - {"", HIDDEN}
