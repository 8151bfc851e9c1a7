"""Hide API keys in output: known keys, and the values of fields whose names suggest a key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["HIDDEN", "hide_keys", "is_sensitive", "scrub"]

HIDDEN = "***"
"""The replacement for a key."""

_KEY_FIELD = re.compile(r"key|token|secret|auth|cookie|password|credential|signature", re.IGNORECASE)
_HARMLESS = re.compile(r"tokens|keep|author(?!i)|keyword", re.IGNORECASE)


def is_sensitive(name: str) -> bool:
    """Return whether a field of this name usually holds a key."""
    return bool(_KEY_FIELD.search(_HARMLESS.sub("", name)))


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Replace the secrets in a text; longer ones first, since one may contain another."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def hide_keys(value: Any, secrets: Iterable[str] = ()) -> Any:
    """Return a copy of a JSON value with known keys hidden, and texts in fields whose names suggest a key."""
    if isinstance(value, str):
        return scrub(value, secrets)
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if isinstance(item, str) and is_sensitive(str(name)) else hide_keys(item, secrets)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [hide_keys(item, secrets) for item in value]
    return value
