"""Reasoning in `reasoning_details`, which OpenRouter and its like want back unchanged in the next turn.

OpenRouter, "Reasoning tokens", section "Preserving reasoning" (as of 2026-10): each detail has a type
(`reasoning.text`, `reasoning.summary`, `reasoning.encrypted`), an id, an index and a format; a text may have a
signature. Streamed, a detail comes in pieces, which are put together again by their type and index.
"""

from __future__ import annotations

import json

from mellea.backends.http.fields import known_text
from mellea.backends.openai.chat.wire import JsonObject

__all__ = ["Details"]

_PIECES = ("text", "summary", "data")


class Details:
    """Collects the details of one run of reasoning in `held`."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held: list[JsonObject] = []

    def feed(self, details: list[JsonObject]) -> str:
        """Add details and return their readable text."""
        said = []
        for detail in details:
            said += [known_text(detail, "text"), known_text(detail, "summary")]
            last = self.held[-1] if self.held else {}
            if any(last.get(name) != detail.get(name) for name in ("type", "index")) or not last:
                self.held.append(dict(detail))
                continue
            for name, value in detail.items():
                if name in _PIECES:
                    last[name] = known_text(last, name) + known_text(detail, name)
                elif value is not None:
                    last[name] = value
        return "".join(said)

    def take(self) -> str:
        """Return the collected details as JSON, and start over."""
        text = json.dumps(self.held, ensure_ascii=False, separators=(",", ":"))
        self.held = []
        return text
