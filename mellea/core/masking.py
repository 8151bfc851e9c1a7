"""Hiding keys in what is shown: texts that are known to be keys, and fields that are named as keys are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["HIDDEN", "hide_keys", "is_sensitive", "scrub"]

HIDDEN = "***"
"""What stands for a key."""

_KEY_FIELD = re.compile(r"key|token|secret|auth|cookie|password|credential|signature", re.IGNORECASE)
_HARMLESS = re.compile(r"tokens|keep|author(?!i)|keyword", re.IGNORECASE)


def is_sensitive(name: str) -> bool:
    """Tell whether a field of this name holds a key, as a rule."""
    return bool(_KEY_FIELD.search(_HARMLESS.sub("", name)))


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return the text without the secrets; a longer one goes before its own parts."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def hide_keys(value: Any, secrets: Iterable[str] = ()) -> Any:
    """Return a copy of a JSON value in which known keys are hidden, and texts in fields named as keys are."""
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
