"""Reasoning in `reasoning_details`, which OpenRouter and its like want back unchanged in the next turn.

OpenRouter, "Reasoning tokens", section "Preserving reasoning" (as of 2026-10): each detail has a type
(`reasoning.text`, `reasoning.summary`, `reasoning.encrypted`), an id, an index and a format; a text may have a
signature. Streamed, a detail comes in pieces, which are put together again by their type and index.
"""

from __future__ import annotations

import json

from mellea.backends.openai.chat.wire import JsonObject
from mellea.backends.openai.fields import text_of

__all__ = ["Details"]

_PIECES = ("text", "summary", "data")


class Details:
    """Collects the details of one stretch of reasoning."""

    __slots__ = ("_details",)

    def __init__(self) -> None:
        self._details: list[JsonObject] = []

    def __bool__(self) -> bool:
        return bool(self._details)

    def feed(self, details: list[JsonObject]) -> str:
        """Take more details and return what can be read of them."""
        said = []
        for detail in details:
            said += [text_of(detail, "text"), text_of(detail, "summary")]
            last = self._details[-1] if self._details else {}
            if any(last.get(name) != detail.get(name) for name in ("type", "index")) or not last:
                self._details.append(dict(detail))
                continue
            for name, value in detail.items():
                if name in _PIECES:
                    last[name] = text_of(last, name) + text_of(detail, name)
                elif value is not None:
                    last[name] = value
        return "".join(said)

    def taken(self) -> str:
        """Return the details as JSON, and begin anew."""
        text = json.dumps(self._details, ensure_ascii=False, separators=(",", ":"))
        self._details = []
        return text
