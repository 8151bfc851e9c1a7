"""Outgoing requests: path, JSON body and headers, and the HTTP request made from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mellea.backends.http.secret import Headers
from mellea.core.options import ModelOption
from mellea.core.values import quick_value

__all__ = ["HTTP_OPTIONS", "MOST_BODY_BYTES", "FormFile", "HttpRequest", "JobCall", "Outgoing"]

MOST_BODY_BYTES = 256 * 1024 * 1024
"""How large an answer in one JSON body may become; images make them large."""

FormFile = tuple[str, str, bytes, str]
"""A file in a form: its field, its name, its bytes and its media type."""

HTTP_OPTIONS = frozenset(map(str, (ModelOption.STREAM, ModelOption.EXTRA_BODY, ModelOption.EXTRA_HEADERS)))
"""The options that every HTTP backend takes; put them into `Capabilities.options`."""


@quick_value
class Outgoing:
    """One request in a provider's wire format.

    Args:
        path: after the base URL, such as `"chat/completions"`; a query may follow it.
        payload: the JSON body.
        headers: for this request alone, such as the names of beta features.
        body: what is sent instead of a JSON body.
    """

    path: str
    payload: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)

    def merge_extras(self, *extras: Mapping[str, Any]) -> Outgoing:
        """Return this with `extras` merged into the payload; later ones take precedence."""
        payload = self.payload
        for extra in extras:
            # Nothing is copied for options that aren't given, as usual.
            payload = _merge(payload, extra) if extra else payload
        return replace(self, payload=payload)


@quick_value
class JobCall:
    """One HTTP call about a job that runs at the provider: a batch, or a video.

    Args:
        method: `"GET"`, `"POST"` or `"DELETE"`.
        path: after the base URL; or a whole address, of the provider's own server.
        payload: the JSON body of a POST, or the fields of a form, which are strings.
        files: those of a form, which may have none; `None` for a JSON body.
        body: the body, if it is written already.
        headers: for this call alone.
        wants: the requested part of the response: its JSON value, its bytes, the first `most_bytes` of them, or its
            headers.
        most_bytes: the largest response.
    """

    method: str
    path: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[FormFile, ...] | None = field(default=None, repr=False)
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    wants: Literal["json", "bytes", "start", "headers"] = "json"
    most_bytes: int = MOST_BODY_BYTES


@dataclass(slots=True)
class HttpRequest:
    """One HTTP request.

    Args:
        method: `"GET"` or `"POST"`.
        url: the whole address.
        origin: the address as errors show it, without anything secret.
        headers: all of them, the key included, but those that the connection sets.
        body: of a POST.
        connect: seconds until the connection has to be open.
        read: seconds between two reads; a run watches its own deadlines and needs none.
        endpoint: the path relative to the base URL, as errors show it; `""` for a file elsewhere.
    """

    method: str
    url: str
    origin: str
    headers: Headers
    body: bytes | None = field(default=None, repr=False)
    connect: float | None = None
    read: float | None = None
    endpoint: str = ""


def _merge(payload: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `extra` into the payload; mappings inside are merged, other values replaced."""
    result = dict(payload)
    for name, value in extra.items():
        old = result.get(name)
        # Deep merge, so that `extra_body` can add one field to an object that the codec wrote.
        result[name] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result
