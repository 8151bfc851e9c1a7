"""The calls of one streamed answer, put together from deltas that every service sends in its own way.

Which call a delta belongs to: the one with its `index`; without an index, the one with its `id`, or the
last one. A delta with a new id and a name begins another call, even under an index that is taken. Ids and
names may be repeated in each delta, may be missing, and may come late.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mellea.backends.openai.chat.wire import JsonObject
from mellea.backends.openai.fields import int_of, mapping_of, text_of
from mellea.core.events import Event, ToolDelta, ToolEnd, ToolStart
from mellea.core.messages import parse_tool_call

__all__ = ["Calls"]


@dataclass(slots=True)
class _Call:
    sent_id: str  # as the provider sends it, which need not be unique
    name: str = ""
    call_id: str = ""  # known once it has been announced
    chunks: list[str] = field(default_factory=list)


class Calls:
    """Turns the deltas of calls into events."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def feed(self, delta: JsonObject, response_id: str | None, events: list[Event]) -> None:
        """Take one entry of `tool_calls`."""
        sent_id, index = text_of(delta, "id"), int_of(delta, "index")
        function = mapping_of(delta, "function")
        name, chunk = text_of(function, "name"), text_of(function, "arguments")
        call = self._find(index, sent_id, name)
        if call is None:
            call = _Call(sent_id)
            self._calls.append(call)
            if index is not None:
                self._by_index[index] = call
        call.sent_id = call.sent_id or sent_id
        call.name = call.name or name
        if chunk:
            call.chunks.append(chunk)
        if not call.call_id:
            self._announce(call, response_id, events)
        elif chunk:
            events.append(ToolDelta(call.call_id, chunk))

    def end(self, events: list[Event], *, is_cut_off: bool) -> None:
        """End all calls; `is_cut_off` where the answer stopped before the model was done with it."""
        for call in self._calls:
            ended = parse_tool_call(call.call_id, call.name, "".join(call.chunks))
            if is_cut_off and call is self._calls[-1] and not ended.tool_args:
                # No arguments at all, or half of them: it must not be taken for a call without arguments.
                ended = replace(ended, is_valid=False)
            if call.call_id:
                events.append(ToolEnd(ended))
        self._calls.clear()

    def _find(self, index: int | None, sent_id: str, name: str) -> _Call | None:
        if index is not None:
            call = self._by_index.get(index)
            is_another = call is not None and name and sent_id and call.sent_id and sent_id != call.sent_id
            return None if is_another else call
        if sent_id:
            return next((call for call in self._calls if call.sent_id == sent_id), None)
        return self._calls[-1] if self._calls and not name else None

    def _announce(self, call: _Call, response_id: str | None, events: list[Event]) -> None:
        if not call.name:
            return
        number = self._calls.index(call)
        taken = {other.call_id for other in self._calls}
        call_id = call.sent_id or "_".join(filter(None, ("call", response_id, str(number))))
        call.call_id = f"{call_id}_{number}" if call_id in taken else call_id
        events.append(ToolStart(call.call_id, call.name))
        events.extend(ToolDelta(call.call_id, chunk) for chunk in call.chunks)
