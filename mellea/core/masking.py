"""Hide API keys in output: known keys, and the values of fields whose names suggest a key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["HIDDEN", "hide_key_like", "hide_keys", "is_sensitive", "scrub"]

HIDDEN = "***"
"""The replacement for a key."""

_KEY_FIELD = re.compile(r"key|token|secret|auth|cookie|password|credential|signature", re.IGNORECASE)
_HARMLESS = re.compile(r"tokens|keep|author(?!i)|keyword", re.IGNORECASE)

_KEY_LIKE = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*"  # to the end: a key in PEM form isn't followed by anything of use
    r"|(?<![\w-])(?:eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"  # a JSON Web Token
    r"|(?:sk|pk|rk|gsk|xai|hf|nvapi|glpat|pat|gh[opsur]|github_pat|xox[abeoprs]|npm|pypi|dckr_pat|shpat)[_-][\w-]{16,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}\b|AIza[\w-]{35})",
    re.DOTALL,
)
"""The forms that keys of well-known services have, by which secret scanners find them too."""


def is_sensitive(name: str) -> bool:
    """Return whether a field of this name usually holds a key."""
    return bool(_KEY_FIELD.search(_HARMLESS.sub("", name)))


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Replace the secrets in a text; longer ones first, since one may contain another."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def hide_key_like(text: str) -> str:
    """Hide what has the form of a well-known service's key, in linear time."""
    return _KEY_LIKE.sub(HIDDEN, text)


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
