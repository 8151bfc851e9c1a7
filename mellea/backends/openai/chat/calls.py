"""Assembles the calls of one streamed answer from deltas, which every service sends in its own way.

Which call a delta belongs to: the one with its `index`; without an index, the one with its `id`, or the last one.
Another call begins, even under a used index, with another name; with another id, if it has a name or the arguments so
far are complete; and with a name and more arguments, if those so far are complete. The same complete arguments under
the same id only repeat the call, and a `{}` with more after it was a placeholder (LiteLLM). Ids and names may be
repeated in each delta, missing, or late. Calls end with the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import from_json

from mellea.backends.http.call_ids import CallIds
from mellea.backends.http.fields import find_id, read_arguments, read_int, read_mapping, read_text
from mellea.backends.openai.chat.wire import JsonObject
from mellea.core.events import Event, ToolDelta, ToolEnd, ToolStart
from mellea.core.messages import parse_tool_call
from mellea.errors import WireError

__all__ = ["Calls"]

_CHECKS = 64  # how often a call's arguments are parsed in full, so that the total cost stays linear


@dataclass(slots=True)
class _CallInParts:
    sent_id: str  # the provider's, perhaps not unique
    name: str = ""
    call_id: str = ""  # known once it has been announced
    chunks: list[str] = field(default_factory=list)
    empty: str = ""  # the initial `{}`: all its arguments, or a placeholder
    checks: int = 0

    def is_whole(self) -> bool:
        """Return whether the arguments so far are a complete JSON object."""
        if self.empty:
            return True
        if not self.chunks or not self.chunks[-1].rstrip().endswith("}") or self.checks == _CHECKS:
            return False
        self.checks += 1
        try:
            return isinstance(from_json("".join(self.chunks)), dict)
        except ValueError:
            return False

    def is_said_by(self, chunk: str) -> bool:
        """Return whether a chunk repeats all the arguments so far."""
        return "".join(self.chunks).strip() == chunk.strip()


class Calls:
    """Turns the deltas of calls into events."""

    def __init__(self) -> None:
        self._calls: list[_CallInParts] = []
        self._by_index: dict[int, _CallInParts] = {}
        self._by_id: dict[str, _CallInParts] = {}
        self._ids = CallIds()

    def __bool__(self) -> bool:
        return bool(self._calls)

    def feed(self, delta: JsonObject, known: tuple[Any, ...], events: list[Event]) -> None:
        """Handle one entry of `tool_calls`; `known` identifies this answer, for calls without an id.

        Raises:
            WireError: the name or the arguments have a wrong type.
        """
        sent_id, index = find_id(delta, "id"), read_int(delta, "index")
        function = read_mapping(delta, "function")
        name, chunk = read_text(function, "name"), read_arguments(function.get("arguments"))
        # Services disagree about everything here: indexes that never change, ids that repeat, names in every delta.
        # `_is_another` decides.
        before = self._find(index, sent_id, name)
        if before is None or self._is_another(before, index, sent_id, name, chunk):
            call = self._begin(index, sent_id, before)
        elif self._says_again(before, sent_id, name, chunk):
            return
        else:
            call = before
        call.sent_id = call.sent_id or sent_id
        # Some only send the name with the first delta, others with each one.
        call.name = name or call.name
        self._write(call, chunk, events)
        if not call.call_id:
            self._announce(call, known, events)

    def _write(self, call: _CallInParts, chunk: str, events: list[Event]) -> None:
        # Held back: at the beginning it is replaced by the real arguments, alone it means a call without any.
        if not call.chunks and not call.empty and chunk.strip() == "{}":
            call.empty = chunk
            return
        if not chunk.strip() and call.empty:
            return
        call.empty = ""
        if chunk:
            call.chunks.append(chunk)
            if call.call_id:
                events.append(ToolDelta(call.call_id, chunk))

    def end(self, events: list[Event], *, is_cut_off: bool) -> None:
        """End all calls; `is_cut_off` if the answer stopped before the model had finished it.

        Raises:
            WireError: a call has no name.
        """
        for call in self._calls:
            if not call.call_id:
                raise WireError(f"the provider sent a call without a name, with the arguments {''.join(call.chunks)!r}")
            if call.empty:
                call.chunks.append(call.empty)
                events.append(ToolDelta(call.call_id, call.empty))
            ended = parse_tool_call(call.call_id, call.name, "".join(call.chunks))
            # Only the last one can be truncated: the next one ended each of the others.
            if is_cut_off and call is self._calls[-1] and not ended.tool_args:
                # Missing or incomplete arguments: it must not be run as a call without arguments.
                ended = replace(ended, is_valid=False)
            events.append(ToolEnd(ended))
        self._calls.clear()

    def _find(self, index: int | None, sent_id: str, name: str) -> _CallInParts | None:
        """Return the call that a delta belongs to, unless it begins another."""
        if index is not None:
            return self._by_index.get(index)
        if sent_id:
            return self._by_id.get(sent_id)
        return self._calls[-1] if self._calls else None

    def _is_another(self, call: _CallInParts, index: int | None, sent_id: str, name: str, chunk: str) -> bool:
        if name and call.name and name != call.name:
            return True
        is_more = bool(chunk.strip())
        if sent_id and call.sent_id:
            if sent_id != call.sent_id:
                # Another id isn't enough: some services invent a new one for every delta.
                return bool(name) or (is_more and call.is_whole())
            # Two calls may share an id; but a complete call may also be repeated, or have begun as `{}`.
            return bool(name) and is_more and not call.empty and call.is_whole() and not call.is_said_by(chunk)
        if not name or not call.name:
            return False
        if index is None and not call.chunks and not call.empty:
            return True  # the same tool again, both times without arguments
        # More arguments after a complete object can only belong to another call.
        return is_more and call.is_whole()

    def _says_again(self, call: _CallInParts, sent_id: str, name: str, chunk: str) -> bool:
        is_same = bool(sent_id) and sent_id == call.sent_id and bool(name) and bool(chunk.strip())
        return is_same and bool(call.chunks) and call.is_whole() and call.is_said_by(chunk)

    def _begin(self, index: int | None, sent_id: str, before: _CallInParts | None) -> _CallInParts:
        call = _CallInParts(sent_id, before.name if before is not None else "")
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        if sent_id:
            self._by_id.setdefault(sent_id, call)
        return call

    def _announce(self, call: _CallInParts, known: tuple[Any, ...], events: list[Event]) -> None:
        if not call.name:
            return
        call.call_id = self._ids.make_id(call.sent_id, *known)
        events.append(ToolStart(call.call_id, call.name))
        events.extend(ToolDelta(call.call_id, chunk) for chunk in call.chunks)
