"""Decodes a model's text in the protocol into the events of native tools.

    prose ──"{"──▶ opening ──a key of the protocol──▶ in an object ──"}"──▶ between ──"{"──▶ opening …
                     │ anything else                       └── after an answer ──▶ over
                     └──▶ prose

Rules:

- Nothing is shown that a corrective attempt would have to retract: prose is held back until a call begins, and is
  dropped if none does. An answer's text is shown as it is written, unescaped; if its JSON breaks off, it ends there.
- A call that has begun isn't retracted either: if its arguments aren't an object, it ends as an invalid call, like
  native ones, and its result tells the model what was wrong.
- Calls may follow one another, with nothing but white space, commas, brackets and code fences in between. Anything
  after other text, such as results that the model made up, is dropped, and so is everything after an answer.
- Each character is read once or twice, however the text is split; held text has a limit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from mellea.backends.text_tools.values import QuotedText, RawValue
from mellea.core.events import Event, FinishReason, TextDelta, ToolDelta, ToolEnd, ToolStart
from mellea.core.messages import parse_tool_call

__all__ = ["MAX_HELD", "ProtocolDecoder", "ProtocolRules"]

MAX_HELD = 200_000
"""The most characters held back before a call or an answer, or between two calls."""

_FAR = 2**62
"""A place after any text."""

_MAX_NAME = 256
"""Characters of a key or of the name of a tool."""

_STOPPED = ("length", "content_filter", "error")
_KEYS = ("answer", "arguments", "tool")
_SPACE = re.compile(r"[ \t\n\r]*+")
_BETWEEN = " \t\n\r,;[]`"
_FENCE = re.compile(r"```\w{0,20}\Z")


@dataclass(frozen=True, slots=True)
class ProtocolRules:
    """What the model may write.

    Args:
        names: the tools that it may call, if there is a tool choice; otherwise calls of unknown tools are accepted,
            too.
        must_call: whether it has to call a tool.
        has_format: whether the answer is a JSON value rather than a text.
        begun: the given beginning of its text.
    """

    names: frozenset[str] | None = None
    must_call: bool = False
    has_format: bool = False
    begun: str = ""


class ProtocolDecoder:
    """Converts the pieces of one text to events.

    Args:
        rules: what the model may write.
        make_id: makes the id of the next call.

    Attributes:
        problem: why the text breaks the protocol, as a message to the model; nothing has been shown then.
        has_called: whether a call has begun.
    """

    def __init__(self, rules: ProtocolRules, make_id: Callable[[], str]) -> None:
        self.problem: str | None = None
        self.has_called = False
        self._rules = rules
        self._make_id = make_id
        self._state: Callable[[ProtocolDecoder, str, int, list[Event]], int] = ProtocolDecoder._read_prose
        self._prose: list[str] = []
        self._held = 0  # how many characters are held back
        self._has_answered = False
        # Of the current object:
        self._opening: list[str] = []  # its text, while it may not be an object of the protocol
        self._key = ""
        self._seen: set[str] = set()  # its keys
        self._name = ""  # of the tool
        self._id = ""  # of the call, once it has begun
        self._arguments: list[str] = []
        self._text = QuotedText()
        self._raw = RawValue("")
        self._sink: Callable[[str, list[Event]], None] | None = None  # handles the pieces of a value
        self.feed(rules.begun)

    @property
    def prose(self) -> str:
        """The text outside calls and answers."""
        return "".join(self._prose)

    def feed(self, text: str) -> list[Event]:
        """Take more text, and return the events that are certain; none after a problem."""
        events: list[Event] = []
        if self.problem is not None or not text:
            return events
        place = 0
        while place < len(text) and self.problem is None:
            place = self._state(self, text, place, events)
        return events

    def close(self, reason: FinishReason = "stop") -> list[Event]:
        """Return the last events, and set the problem if the text had neither a call nor an answer.

        Args:
            reason: the finish reason; a truncated text isn't a problem.
        """
        events: list[Event] = []
        if self._id and self.problem is None:
            self._end_call(events)
        if end := self._text.close():
            self._show(end, events)
        if self.problem is None and not self.has_called and not self._has_answered:
            if reason not in _STOPPED:
                self.problem = 'There was no JSON object with "tool" or "answer" in it.'
            elif not self.prose.isspace() and self.prose:
                self._show(self.prose, events)
        return events

    # Each state is a method that takes the text and a position, and returns the new position.

    def _read_prose(self, text: str, place: int, events: list[Event]) -> int:
        begin = text.find("{", place)
        end = len(text) if begin < 0 else begin
        self._hold(text[place:end])
        if begin < 0:
            return end
        if self.has_called and self.prose.strip(_BETWEEN) not in ("", "json"):
            self._state = ProtocolDecoder._skip_rest
            return len(text)
        self._begin_object()
        self._state = ProtocolDecoder._read_opening
        return begin + 1

    def _skip_rest(self, text: str, place: int, events: list[Event]) -> int:
        return len(text)

    def _read_opening(self, text: str, place: int, events: list[Event]) -> int:
        """Read the first key of what may be an object of the protocol."""
        place = self._skip_space(text, place)
        if place == len(text):
            return place
        if text[place] != '"':
            return self._give_up(place)
        self._opening.append('"')
        self._state = ProtocolDecoder._read_first_key
        return place + 1

    def _read_first_key(self, text: str, place: int, events: list[Event]) -> int:
        end = text.find('"', place, place + len(max(_KEYS, key=len)) + 1)
        self._key += text[place : len(text) if end < 0 else end]
        if end < 0 and any(key.startswith(self._key) for key in _KEYS):
            self._opening.append(text[place:])
            return len(text)
        if self._key not in _KEYS:
            return self._give_up(place)
        self._opening.append(text[place : end + 1])
        self._state = ProtocolDecoder._read_colon
        return end + 1

    def _give_up(self, place: int) -> int:
        """Treat what looked like an object of the protocol as prose."""
        self._hold("".join(self._opening))
        self._state = ProtocolDecoder._read_prose
        return place

    def _read_key(self, text: str, place: int, events: list[Event]) -> int:
        place = self._skip_space(text, place)
        if place == len(text):
            return place
        if text[place] == "}":
            return self._end_object(place, events)
        if text[place] != '"':
            return self._expect("a key in quotes", text[place], events)
        self._key = ""
        self._state = ProtocolDecoder._read_key_rest
        return place + 1

    def _read_key_rest(self, text: str, place: int, events: list[Event]) -> int:
        end = text.find('"', place)
        self._key += text[place : len(text) if end < 0 else end]
        if len(self._key) > _MAX_NAME:
            return self._break("A key was too long.", events)
        if end < 0:
            return len(text)
        self._state = ProtocolDecoder._read_colon
        return end + 1

    def _read_colon(self, text: str, place: int, events: list[Event]) -> int:
        place = self._skip_space(text, place)
        if place == len(text):
            return place
        if text[place] != ":":
            return self._give_up(place) if self._opening else self._expect("':'", text[place], events)
        self._opening.clear()
        self._state = ProtocolDecoder._read_value
        return place + 1

    def _read_value(self, text: str, place: int, events: list[Event]) -> int:
        place = self._skip_space(text, place)
        if place == len(text):
            return place
        is_new = self._key not in self._seen
        self._seen.add(self._key)
        self._raw = RawValue(text[place])
        self._state, self._sink = ProtocolDecoder._read_raw, None
        if self._key == "tool" and is_new:
            if text[place] == '"':
                self._state = ProtocolDecoder._read_name
                return place + 1
        elif self._key == "arguments" and is_new:
            self._sink = self._write_arguments
        elif self._key == "answer" and not (self._has_answered or self.has_called):
            return self._begin_answer(text, place)
        return place

    def _begin_answer(self, text: str, place: int) -> int:
        if self._rules.must_call:
            self.problem = "You have to call a tool before you answer."
            return len(text)
        self._has_answered = True
        if text[place] == '"' and not self._rules.has_format:
            self._state = ProtocolDecoder._read_text
            return place + 1
        self._sink = self._show
        return place

    def _read_name(self, text: str, place: int, events: list[Event]) -> int:
        end = text.find('"', place)
        self._name += text[place : len(text) if end < 0 else end]
        if len(self._name) > _MAX_NAME:
            return self._break("The name of the tool was too long.", events)
        if end < 0:
            return len(text)
        self._name, names = _unquote(self._name), self._rules.names
        if not self._name:
            return self._break("The name of the tool was empty.", events)
        if names is not None and self._name not in names:
            wanted = " or ".join(map(repr, sorted(names)))
            return self._break(f"You have to call {wanted}, not {self._name!r}.", events)
        self._begin_call(events)
        self._state = ProtocolDecoder._read_after
        return end + 1

    def _read_text(self, text: str, place: int, events: list[Event]) -> int:
        """Read the answer's text, and emit the certain part."""
        shown, place, is_over = self._text.read(text, place)
        if shown:
            self._show(shown, events)
        if is_over:
            self._state = ProtocolDecoder._read_after
        return place

    def _read_raw(self, text: str, place: int, events: list[Event]) -> int:
        """Read a raw value, and pass it on."""
        end, is_over = self._raw.read(text, place)
        if self._sink is not None and end > place:
            self._sink(text[place:end], events)
        if is_over:
            self._state = ProtocolDecoder._read_after
        return end

    def _read_after(self, text: str, place: int, events: list[Event]) -> int:
        place = self._skip_space(text, place)
        if place == len(text):
            return place
        if text[place] == ",":
            self._state = ProtocolDecoder._read_key
            return place + 1
        if text[place] == "}":
            return self._end_object(place, events)
        return self._expect("',' or '}'", text[place], events)

    def _begin_object(self) -> None:
        self._key = self._name = self._id = ""
        self._opening = ["{"]
        self._seen.clear()
        self._arguments.clear()

    def _end_object(self, place: int, events: list[Event]) -> int:
        if self._id:
            self._end_call(events)
            self._prose.clear()
            self._held = 0
            self._state = ProtocolDecoder._read_prose
        elif self._has_answered or self.has_called:
            self._state = ProtocolDecoder._skip_rest
        else:
            self.problem = 'There was a JSON object with neither "tool" nor "answer" in it.'
        return place + 1

    def _expect(self, wanted: str, char: str, events: list[Event]) -> int:
        return self._break(f"The JSON was wrong: there was {char!r} where {wanted} should be.", events)

    def _break(self, problem: str, events: list[Event]) -> int:
        """Abandon an invalid object: a started call or answer ends here, otherwise it is a problem."""
        if self._id:
            self._end_call(events)
        if self.has_called or self._has_answered:
            self._state = ProtocolDecoder._skip_rest
        else:
            self.problem = problem
        return _FAR

    def _begin_call(self, events: list[Event]) -> None:
        if (before := _strip_frame(self.prose)) and not self.has_called and not self._has_answered:
            self._show(before, events)
        self.has_called = True
        self._id = self._make_id()
        events.append(ToolStart(self._id, self._name))
        if self._arguments:
            events.append(ToolDelta(self._id, "".join(self._arguments)))

    def _end_call(self, events: list[Event]) -> None:
        events.append(ToolEnd(parse_tool_call(self._id, self._name, "".join(self._arguments))))
        self._id = ""

    def _write_arguments(self, text: str, events: list[Event]) -> None:
        self._arguments.append(text)
        if self._id:
            events.append(ToolDelta(self._id, text))
        else:
            self._count(text)

    def _show(self, text: str, events: list[Event]) -> None:
        events.append(TextDelta(text))

    def _hold(self, text: str) -> None:
        if text:
            self._prose.append(text)
            self._count(text)

    def _count(self, text: str) -> None:
        self._held += len(text)
        if self._held <= MAX_HELD:
            return
        if self.has_called:
            self._state = ProtocolDecoder._skip_rest
        else:
            self.problem = f"There was no call and no answer within {MAX_HELD:,} characters."

    def _skip_space(self, text: str, place: int) -> int:
        end = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if end > place and self._opening:
            self._opening.append(text[place:end])
            self._count(text[place:end])
        return end


def _unquote(name: str) -> str:
    try:
        return str(json.loads(f'"{name}"')) if "\\" in name else name
    except ValueError:
        return name


def _strip_frame(prose: str) -> str:
    """Return the text before a call without its frame: white space, a code fence, other JSON."""
    said = _FENCE.sub("", prose.rstrip().removesuffix("[").rstrip()).rstrip()
    return "" if said.lstrip().startswith(("{", "[")) else said
