"""Converts thoughts in tags at the beginning of a model's text to `ReasoningDelta`.

Many open models write their thoughts into the text, and many chat completions servers, Ollama and the embedded engine
pass them on. If the server uses its field for reasoning, the text is left unchanged.

    start ──tag──▶ thinking ──closing tag──▶ start        white space in between belongs to nothing
    start ──anything else, or reasoning in a field──▶ text, for good

Unclosed thoughts are all reasoning. The result doesn't depend on how the text is split into deltas.
"""

from __future__ import annotations

from collections.abc import Sequence

from mellea.core.events import Event, KeepAlive, ReasoningDelta, TextDelta, UsageEvent

__all__ = ["TAGS", "ThoughtTags"]

TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<reasoning>": "</reasoning>",
    "[THINK]": "[/THINK]",
}
"""The tags, opening and closing: most open models, Claude's imitators, Granite, Mistral's Magistral."""

_FIRSTS = frozenset(opening[0] for opening in TAGS)

_BESIDE = (KeepAlive, UsageEvent)
_BYTE_ORDER_MARK = "\ufeff"


class ThoughtTags:
    """A filter of events; once `is_over` nothing more will change, and it may be left out.

    White space around the thoughts is dropped.
    """

    __slots__ = ("_closing", "_has_thought", "_held", "_space", "_was_thinking", "is_over")

    def __init__(self) -> None:
        self.is_over = False
        self._held = ""  # what may be the beginning of a tag
        self._space: list[str] = []  # white space before it, still undecided
        self._closing = ""  # the closing tag of the current thoughts
        self._has_thought = False  # whether there is more than white space in these tags
        self._was_thinking = False

    def feed(self, events: Sequence[Event]) -> list[Event]:
        """Return the events with thoughts as reasoning."""
        out: list[Event] = []
        for event in events:
            if self.is_over or isinstance(event, _BESIDE):
                out.append(event)
            elif type(event) is TextDelta:
                self._read_text(event.chunk, out)
            else:
                self._pass_other(event, out)
        return out

    def _pass_other(self, event: Event, out: list[Event]) -> None:
        if isinstance(event, ReasoningDelta) and not event.chunk and event.signature is None:
            return
        out += self._release()
        out.append(event)

    def _release(self) -> list[Event]:
        """Return what was held back, at the end of the text or before another event."""
        out: list[Event] = []
        if self._closing:
            self._think(self._held, out)
            if self._has_thought and self._space:
                out.append(ReasoningDelta("".join(self._space)))
        elif text := self._held if self._was_thinking else "".join([*self._space, self._held]):
            out.append(TextDelta(text))
        self.is_over = True
        self._space.clear()
        return out

    def _read_text(self, chunk: str, out: list[Event]) -> None:
        if not chunk:
            return
        text = self._held + chunk
        self._held = ""
        while text and not self.is_over:
            text = self._read_inside(text, out) if self._closing else self._start(text)
        if text:
            out.append(TextDelta(text))

    def _start(self, text: str) -> str:
        """Look for an opening tag; returns what comes after the decision."""
        bare = text.lstrip()
        if bare.startswith(_BYTE_ORDER_MARK):
            bare = bare[1:].lstrip()
        if not bare:
            self._space.append(text)
            return ""
        for opening, closing in TAGS.items():
            if bare.startswith(opening):
                self._closing, self._was_thinking, self._has_thought = closing, True, False
                self._space.clear()
                return bare[len(opening) :]
        if bare[0] in _FIRSTS and any(opening.startswith(bare) for opening in TAGS):
            self._space.append(text[: len(text) - len(bare)])
            self._held = bare
            return ""
        self.is_over = True
        return bare if self._was_thinking else "".join([*self._space, text])

    def _read_inside(self, text: str, out: list[Event]) -> str:
        """Read thoughts up to the closing tag; returns the text after it."""
        end = text.find(self._closing)
        if end < 0:
            end = len(text) - _measure_overlap(text, self._closing)
            self._think(text[:end], out)
            self._held = text[end:]
            return ""
        self._think(text[:end], out)
        rest = text[end + len(self._closing) :]
        self._closing = ""
        self._space.clear()
        return rest

    def _think(self, text: str, out: list[Event]) -> None:
        bare = text.rstrip()
        if bare:
            said = "".join([*self._space, bare])
            self._space.clear()
            out.append(ReasoningDelta(said if self._has_thought else said.lstrip()))
            self._has_thought = True
        self._space.append(text[len(bare) :])


def _measure_overlap(text: str, tag: str) -> int:
    """Return how many characters at the end of a text may be the beginning of a tag."""
    longest = min(len(text), len(tag) - 1)
    return next((count for count in range(longest, 0, -1) if text.endswith(tag[:count])), 0)
