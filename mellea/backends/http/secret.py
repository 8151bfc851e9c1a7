"""Keys: stored where nothing prints them, and removed from every message."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from mellea.backends.http.address import Address
from mellea.core.masking import HIDDEN, hold_secret, is_sensitive, scrub
from mellea.core.options import MAY_HOLD_KEYS
from mellea.core.terminal import make_lines_visible
from mellea.errors import AuthError, ConfigurationError, UsageError

__all__ = ["Headers", "KeySource", "Secret", "find_key", "make_missing_key_error", "scrub_error", "strip_secrets"]

_SENSITIVE = re.compile(r"key|token|secret|auth|cookie|password", re.IGNORECASE)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SHORTEST = 6
"""Shorter texts aren't keys, and masking them would garble a message."""

_SCHEMES = frozenset({"bearer", "digest"})
"""The scheme in front of a key in its header; a server's advice may contain the word."""

_OF_THE_CONNECTION = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
     "upgrade"}
)  # fmt: skip
"""Headers that say where a request ends and whether the connection stays open; a second value would be request
smuggling."""


class Secret:
    """A key that is only shown on request.

    Attributes:
        revealed: the key, `None` if there is none or it is empty.
    """

    __slots__ = ("__weakref__", "revealed")

    def __init__(self, text: str | None) -> None:
        # A key from a file often has a trailing line end.
        self.revealed = (text.strip() if text else None) or None
        if self.revealed:
            hold_secret(self)

    def secrets(self) -> set[str]:
        """Return the key, unless it could be an ordinary word, like the dummies for local servers."""
        return {self.revealed} if self.revealed and len(self.revealed) >= _SHORTEST else set()

    def __repr__(self) -> str:
        return f"Secret({HIDDEN!r})" if self.revealed else "Secret(None)"


def find_key(variables: Iterable[str]) -> str | None:
    """Return the key from the first of these environment variables that is set, `None` if none is."""
    return next((value for name in variables if (value := os.environ.get(name, "").strip())), None)


class KeySource(NamedTuple):
    """Where a backend's key is from.

    Attributes:
        name: `"api_key="` or the environment variable, `""` if it is unknown, such as for a key in a header.
        variables: the environment variables that may hold it.
    """

    name: str = ""
    variables: tuple[str, ...] = ()

    @classmethod
    def find(cls, api_key: str | None, variables: tuple[str, ...]) -> KeySource:
        """Return the source of a key for an argument of a backend, which may be left out."""
        if api_key is not None:
            return cls("api_key=" if api_key.strip() else "", variables)
        return cls(next((name for name in variables if os.environ.get(name, "").strip()), ""), variables)

    def advise(self, *, had_key: bool) -> str:
        """Return what to do about a rejected request."""
        if had_key:
            return f"check the key, which is from {self.name}" if self.name else "check the key"
        ways = [f"set {' or '.join(self.variables)} in the environment"] if self.variables else []
        return f"no key was sent: {', or '.join(['pass api_key=', *ways])}"


def make_missing_key_error(provider: str, model: str, variables: Iterable[str], other_way: str = "") -> AuthError:
    """Create the error for a missing key that the provider requires."""
    named = " or ".join(variables) or "no variable"
    way = f"; or {other_way}" if other_way else ""
    return AuthError(
        f"there is no key for {provider!r}: set {named} in the environment, or pass api_key={way}",
        backend=provider,
        model=model,
    )


class Headers(dict[str, str]):
    """HTTP headers by lower-case name, whose values aren't shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Headers({', '.join(self)})"

    @classmethod
    def check(cls, headers: Mapping[str, str] | None) -> Headers:
        """Check a caller's headers.

        Raises:
            UsageError: one can't be sent; its value isn't shown.
            ConfigurationError: the same, for one that holds a key.
        """
        if headers is None:
            return cls()
        if not isinstance(headers, Mapping):
            raise UsageError(f"headers takes a dict of strings, not {type(headers).__name__}")
        found = cls()
        for name, value in headers.items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise UsageError(f"the header {name!r} takes a string, not {type(value).__name__}")
            if not _NAME.fullmatch(name) or not value.isascii() or not value.isprintable():
                kind = ConfigurationError if _SENSITIVE.search(name) else UsageError
                raise kind(f"the header {name!r} holds a character that no header can; was it copied in full?")
            if name.lower() in _OF_THE_CONNECTION:
                raise UsageError(f"the header {name!r} is set by the connection itself; leave it out")
            found[name.lower()] = value.strip()
        return found

    def secrets(self) -> set[str]:
        """Return the values that are keys, and their words, without the scheme: `"Bearer …"` holds two texts and one
        key."""
        values = {value for name, value in self.items() if _SENSITIVE.search(name)}
        texts = {text for value in values for text in (value, *value.split()) if len(text) >= _SHORTEST}
        return {text for text in texts if text.lower() not in _SCHEMES}


def _show(text: str, secrets: Iterable[str]) -> str:
    text = scrub(text, secrets)
    # A server's text reaches errors in many ways; none may contain terminal control sequences.
    return text if text.isprintable() else make_lines_visible(text)


def scrub_error(error: BaseException, secrets: Iterable[str]) -> None:
    """Remove secrets and terminal control sequences from an error and its causes."""
    secrets, seen = set(secrets), set[int]()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        args = tuple(_show(item, secrets) if isinstance(item, str) else item for item in one.args)
        if args != one.args:
            one.args = args
        todo += (one.__cause__, one.__context__)


# -- pickling ----------------------------------------------------------------------------------------------


def strip_secrets(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a backend for pickling.

    `_missing` names what was dropped, as the arguments that restore it, `"api_key="` first.
    """
    kept, missing = dict(state), dict.fromkeys(state["_missing"])
    key: str | None = state["_key"].revealed
    if key is not None:
        missing = {"api_key=": None, **missing}
    kept["_key"] = Secret(None)
    if kept.pop("_connector").has_own_client:
        missing["client="] = None
    address: Address = state["_address"]
    if address.authorization is not None or address.secrets():
        kept["_address"] = replace(address, query="", authorization=None, password=None)
        missing["the secret parts of base_url="] = None
    kept["_extra_headers"] = Headers(_plain(state["_extra_headers"], "headers=", missing, key))
    kept["_extra_body"] = _plain(state["_extra_body"], "extra_body=", missing, key)
    options = dict(state["model_options"])
    for name in MAY_HOLD_KEYS:
        if name in options:
            options[name] = _plain(options[name], f"model_options' {name!s}", missing, key)
    kept["model_options"] = options
    kept["_missing"] = tuple(missing)
    return kept


def _plain(values: Mapping[str, Any], name: str, missing: dict[str, None], key: str | None) -> dict[str, Any]:
    """Return the fields that hold no key, judging by their names, or because they contain the backend's own."""
    plain = {field: value for field, value in values.items() if not _may_hold_key(field, value, key)}
    if len(plain) < len(values):
        missing[name] = None
    return plain


def _may_hold_key(field: str, value: Any, key: str | None) -> bool:
    if isinstance(value, Mapping):
        return any(_may_hold_key(str(inner), item, key) for inner, item in value.items())
    if isinstance(value, (list, tuple)):
        return any(_may_hold_key(field, item, key) for item in value)
    return isinstance(value, str) and (is_sensitive(field) or bool(key and key in value))
