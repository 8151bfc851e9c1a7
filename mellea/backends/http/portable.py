"""What of a backend may be pickled: everything but keys, and what keeps a connection open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mellea.backends.http.address import Address
from mellea.backends.http.secret import Headers, Secret
from mellea.core.masking import is_sensitive
from mellea.core.options import MAY_HOLD_KEYS

__all__ = ["without_secrets"]


def without_secrets(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a backend as they are pickled.

    `_missing` names what was left out, as the arguments that bring it back; `"api_key="` is the first of them.
    """
    kept, missing = dict(state), dict.fromkeys(state["_missing"])
    key: str | None = state["_key"].reveal()
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
    """Return the fields that hold no key: by their name, or since the backend's own stands in them."""
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
