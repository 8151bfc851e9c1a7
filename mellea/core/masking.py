"""Hide API keys in output: known keys, and the values of fields whose names suggest a key."""

from __future__ import annotations

import os
import re
import time
import weakref
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol

from mellea.core.surrogates import replace_surrogates

__all__ = [
    "HIDDEN",
    "hide_keys",
    "hold_secret",
    "is_sensitive",
    "labels",
    "list_known_secrets",
    "scrub",
    "scrub_all",
    "scrub_label",
    "scrub_text",
]

HIDDEN = "***"
"""The replacement for a key."""

_KEY_FIELD = re.compile(r"key|token|secret|auth|cookie|password|credential|signature", re.IGNORECASE)
_HARMLESS = re.compile(r"tokens|keep|author(?!i)|keyword", re.IGNORECASE)

_SHORTEST = 12
"""A shorter value isn't a key, such as the dummy for a server that needs none, and may occur as a word in any text."""

_MOST_LEVELS = 100
_TOO_DEEP = "… (nested too deeply)"

_SHAPES = (
    # Each starts with distinctive characters, so most places of a text are rejected at once.
    r"\b(?:(?:sk|rk|gsk|xai|pplx|csk|nvapi|vck|tvly|glpat|lsv2|pypi|pylf|whsec)[-_][\w-]{16,}"
    # Names in a program may have these prefixes as well, so a digit is required.
    r"|(?:fw_|r8_|npm_|tgp_|jina_|pa-|dapi)(?=[\w-]{0,40}\d)[\w-]{20,}"
    r"|AIza[\w-]{30,}|AQ\.[\w-]{30,}|ya29\.[\w-]{20,}"  # Google
    r"|hf_\w{30,}"  # Hugging Face
    r"|(?:gh[pousr]_|github_pat_)\w{20,}"
    r"|xox[abeoprs]-[\w-]{10,}"  # Slack
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}\b|ABSK[\w+/=]{20,}"  # Amazon
    r"|SG\.[\w-]{16,40}\.[\w-]{16,}"  # SendGrid
    r"|eyJ[\w-]{8,500}\.[\w-]{8,4000}\.[\w-]*"  # a JSON web token
    r"|(?P<bearer>[bB](?i:earer) )[\w.~+/=-]{16,})"
    # A field of a header, of JSON (which may be quoted in JSON) or of a file of settings.
    r"|(?P<field>(?:[aA](?i:pi[-_]?key|ccess[-_]?key|ccess[-_]?token|ccount[-_]?key|uthorization)|[pP](?i:assword)"
    r"|[sS](?i:ecret[-_]?key)|[cC](?i:lient[-_]?secret))[\\\"']{0,4}\s{0,3}[:=]\s{0,3}[\\\"']{0,4}(?i:basic )?)"
    r"(?=[^\s\"'&]{0,60}\d)[^\s\"'&,;<>\\]{12,}"
    r"|(?P<query>[?&][\w.-]{0,30}(?i:key|token|secret|sig|signature|password|auth)=)[^\s&#\"'<>]{6,}"
    r"|(?P<user>://)[^\s/@:]{0,100}:[^\s/@]{1,300}(?=@)"  # a URL with a password
    r"|-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,20}PRIVATE KEY-----|\Z)"
)
"""What keys of common services look like, and fields that contain some. Every repetition before something else is
bounded, so that the search is linear. `re` compiles it at its first use: most programs record nothing."""


@lru_cache(1000)
def _names_key(name: str) -> bool:
    return is_sensitive(name)


def is_sensitive(name: str) -> bool:
    """Return whether a field of this name usually holds a key."""
    return bool(_KEY_FIELD.search(_HARMLESS.sub("", name)))


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Replace the secrets in a text; longer ones first, since one may contain another."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def hide_keys(value: Any, secrets: Iterable[str] = (), *, depth: int = _MOST_LEVELS) -> Any:
    """Return a copy of a JSON value with known keys hidden, and texts in fields whose names suggest a key.

    Args:
        value: what may hold keys.
        secrets: the known ones.
        depth: how many levels are copied; a model may nest deeper than JSON can be written.
    """
    if isinstance(value, str):
        return scrub(value, secrets)
    if isinstance(value, (Mapping, list, tuple)) and not depth:
        return _TOO_DEEP
    if isinstance(value, Mapping):
        return {
            name: _hide_field(item) if is_sensitive(str(name)) else hide_keys(item, secrets, depth=depth - 1)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [hide_keys(item, secrets, depth=depth - 1) for item in value]
    return value


def _hide_field(value: Any) -> Any:
    # Objects are left alone: in a JSON Schema, a field of this name describes a parameter.
    if isinstance(value, (list, tuple)):
        return [HIDDEN if isinstance(item, str) else item for item in value]
    return HIDDEN if isinstance(value, str) else value


_LAST_WORD = re.compile(r"(?<![!-~])[!-~]+\Z")
"""Keys consist of printable ASCII without blanks."""


class Holder(Protocol):
    """Holds a key."""

    @property
    def revealed(self) -> str | None:
        """The key, `None` if there is none."""


_holders: dict[int, weakref.ref[Holder]] = {}
"""By their `id`. A dict, unlike a set of weak references, can be copied while another thread adds to it."""


def hold_secret(holder: Holder) -> None:
    """Hide a key in recorded data, as long as its holder exists."""
    place = id(holder)
    _holders[place] = weakref.ref(holder, lambda _: _holders.pop(place, None))
    labels.expire()


def list_known_secrets() -> frozenset[str]:
    """Return the keys of backends, and the values of environment variables whose names suggest a key."""
    given = [value for name, value in os.environ.items() if _names_key(name)]
    held = [holder.revealed for each in list(_holders.values()) if (holder := each()) is not None]
    return frozenset(key for key in (*given, *held) if key and len(key) >= _SHORTEST)


_FRESH_SECONDS = 1.0
_MOST_LABELS = 1000


class Labels:
    """Short texts, such as names, without keys and lone surrogates; fast enough for every span.

    Most texts have been seen before. The environment is read once a second, and when a variable is added: that alone
    takes longer than everything else that a span costs.
    """

    def __init__(self) -> None:
        self._until, self._count = 0.0, -1  # when to read the environment again, and how many variables it had
        # Replaced together, so that no thread stores what it has scrubbed with the secrets of before.
        self._known: tuple[frozenset[str], dict[str, str]] = frozenset(), {}

    def expire(self) -> None:
        """Look for secrets again at the next `refresh`."""
        self._until = 0.0

    def refresh(self) -> Labels:
        """Return this, with the secrets that are known now."""
        if time.monotonic() > self._until or len(os.environ) != self._count:
            self._count, self._until = len(os.environ), time.monotonic() + _FRESH_SECONDS
            secrets = list_known_secrets()
            if secrets != self._known[0]:
                self._known = secrets, {}
        return self

    def scrub(self, text: str) -> str:
        """Return a short text without keys and lone surrogates."""
        secrets, scrubbed = self._known
        found = scrubbed.get(text)
        if found is None:
            found = replace_surrogates(scrub_text(text, secrets))
            if len(scrubbed) >= _MOST_LABELS:  # a server may name its model as it likes
                scrubbed.clear()
            scrubbed[text] = found
        return found

    def scrub_id(self, text: str) -> str:
        """Return an id, which differs each time, without known keys and lone surrogates.

        It isn't searched for what looks like a key: that takes longer, and an id may look like one.
        """
        secrets = self._known[0]
        return replace_surrogates(scrub(text, secrets) if secrets else text)


labels = Labels()


def scrub_label(text: str) -> str:
    """Return a short text without keys and lone surrogates."""
    return labels.refresh().scrub(text)


def scrub_text(text: str, secrets: Iterable[str] = ()) -> str:
    """Replace the secrets in a text, and whatever looks like a key of a common service."""
    return re.sub(_SHAPES, _hide_match, scrub(text, secrets))


def _hide_match(match: re.Match[str]) -> str:
    return (match[match.lastgroup] if match.lastgroup else "") + HIDDEN


def hold_back(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a growing text without an end that may become a secret: its last word, or the beginning of a secret.

    Args:
        text: the text so far.
        secrets: those that `scrub_text` will be given when it is complete.
    """
    last_word = _LAST_WORD.search(text)
    ends = [len(text) if last_word is None else last_word.start()]
    for secret in secrets:
        lengths = range(min(len(secret) - 1, len(text)), 0, -1)
        ends += [len(text) - next((length for length in lengths if text.endswith(secret[:length])), 0)]
    return text[: min(ends)]


def scrub_all(value: Any, secrets: Iterable[str] = ()) -> Any:
    """Return a copy of a JSON value in which `scrub_text` was applied to each text."""
    if isinstance(value, str):
        return scrub_text(value, secrets)
    if isinstance(value, Mapping):
        return {name: scrub_all(item, secrets) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrub_all(item, secrets) for item in value]
    return value
