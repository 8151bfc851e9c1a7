"""The UI message stream's rules as data: which parts there are, in which version, and what its clients make of them.

Source: `ai` 5.0.277, 6.0.326 and 7.0.173; measured with their clients, which `tests/web/test_ui_clients.py` asks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Message", "read"]

ALL, FROM_6, ONLY_7 = (5, 6, 7), (6, 7), (7,)

Fields = dict[str, type | tuple[type, ...]]

_META: Fields = {"providerMetadata": dict}
_TOOL: Fields = {"providerExecuted": bool, "dynamic": bool, "title": str, "toolMetadata": dict, **_META}

# Of each part: the versions that know it, the fields that it needs, and those that it may have.
PARTS: dict[str, tuple[tuple[int, ...], Fields, Fields]] = {
    "start": (ALL, {}, {"messageId": str, "messageMetadata": dict}),
    "start-step": (ALL, {}, {}),
    "finish-step": (ALL, {}, {}),
    "reset-step": (ONLY_7, {}, {}),
    "text-start": (ALL, {"id": str}, _META),
    "text-delta": (ALL, {"id": str, "delta": str}, _META),
    "text-end": (ALL, {"id": str}, _META),
    "reasoning-start": (ALL, {"id": str}, _META),
    "reasoning-delta": (ALL, {"id": str, "delta": str}, _META),
    "reasoning-end": (ALL, {"id": str}, _META),
    "tool-input-start": (ALL, {"toolCallId": str, "toolName": str}, _TOOL),
    "tool-input-delta": (ALL, {"toolCallId": str, "inputTextDelta": str}, {}),
    "tool-input-available": (ALL, {"toolCallId": str, "toolName": str, "input": object}, _TOOL),
    "tool-input-error": (ALL, {"toolCallId": str, "toolName": str, "input": object, "errorText": str}, _TOOL),
    "tool-output-available": (ALL, {"toolCallId": str, "output": object}, {"preliminary": bool, **_TOOL}),
    "tool-output-error": (ALL, {"toolCallId": str, "errorText": str}, _TOOL),
    "tool-output-denied": (FROM_6, {"toolCallId": str}, {}),
    "tool-approval-request": (FROM_6, {"approvalId": str, "toolCallId": str}, {"signature": str, "reason": str}),
    "source-url": (ALL, {"sourceId": str, "url": str}, {"title": str, **_META}),
    "source-document": (ALL, {"sourceId": str, "mediaType": str, "title": str}, {"filename": str, **_META}),
    "file": (ALL, {"url": str, "mediaType": str}, _META),
    "message-metadata": (ALL, {"messageMetadata": dict}, {}),
    "error": (ALL, {"errorText": str}, {}),
    "abort": (ALL, {}, {"reason": str}),
    "finish": (ALL, {}, {"finishReason": str, "messageMetadata": dict}),
}
_DATA: tuple[tuple[int, ...], Fields, Fields] = (ALL, {"data": object}, {"id": str, "transient": bool})
_REASONS = {"stop", "length", "content-filter", "tool-calls", "error", "other"}


@dataclass
class Message:
    """What a client builds of a stream, and how the stream has ended."""

    parts: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    id: str | None = None
    ending: str = ""
    transient: list[dict[str, Any]] = field(default_factory=list)


def read(body: bytes, version: int, earlier: list[dict[str, Any]] | None = None) -> Message:
    """Check a stream, and build its message.

    Args:
        body: the whole of it.
        version: of the client.
        earlier: the parts of the message that it goes on with.

    Raises:
        AssertionError: a client of that version would refuse it, or it has no proper end.
    """
    frames = body.decode().split("\n\n")
    assert frames.pop() == "", "cut inside of a frame"
    lines = [frame for frame in frames if not frame.startswith(":")]
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    assert lines.pop() == "data: [DONE]", "no end mark"
    reader = _Reader(version, Message(parts=[*(earlier or [])]))
    for line in lines:
        part = json.loads(line.removeprefix("data: "), parse_constant=_refuse)
        assert not reader.message.ending, f"{part} comes after the end"
        _check(part, version)
        reader.take(part)
    assert reader.message.ending, "it neither finishes, nor fails, nor was stopped"
    assert reader.message.ending.startswith("finish") <= (not reader.texts), "a part is open at the end"
    return reader.message


def _refuse(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


def _check(part: dict[str, Any], version: int) -> None:
    kind = part["type"]
    versions, needed, optional = _DATA if kind.startswith("data-") else PARTS[kind]
    assert version in versions, f"version {version} refuses {kind}"
    for name, value in part.items():
        if name == "type":
            continue
        known = {**needed, **optional}
        assert name in known, f"{kind} has no field {name}"
        assert isinstance(value, known[name]), f"{kind}.{name} is {value!r}"  # also: never null
    assert not needed.keys() - part.keys(), f"{part} lacks a field"
    assert part.get("finishReason", "stop") in _REASONS


class _Reader:
    def __init__(self, version: int, message: Message) -> None:
        self.version = version
        self.message = message
        self.texts: dict[str, dict[str, Any]] = {}
        self._is_first = True
        self._writing: set[str] = set()

    def take(self, part: dict[str, Any]) -> None:
        kind = part["type"]
        assert (kind == "start") == self._is_first, "a stream begins with one start"
        self._is_first = False
        if kind.startswith("data-"):
            self._data(part)
        elif kind.startswith(("text-", "reasoning-")):
            self._text(part)
        elif kind.startswith("tool-"):
            self._tool(part)
        else:
            getattr(self, "_" + kind.replace("-", "_"))(part)

    def _start(self, part: dict[str, Any]) -> None:
        self.message.id = part.get("messageId")
        self.message.metadata |= part.get("messageMetadata", {})

    def _message_metadata(self, part: dict[str, Any]) -> None:
        self.message.metadata |= part["messageMetadata"]

    def _start_step(self, part: dict[str, Any]) -> None:
        self.message.parts.append({"type": "step-start"})

    def _finish_step(self, part: dict[str, Any]) -> None:
        pass

    def _reset_step(self, part: dict[str, Any]) -> None:
        while self.message.parts and self.message.parts[-1]["type"] != "step-start":
            self.message.parts.pop()
        self.texts.clear()
        self._writing.clear()

    def _finish(self, part: dict[str, Any]) -> None:
        self.message.ending = f"finish {part.get('finishReason')}"
        self.message.metadata |= part.get("messageMetadata", {})

    def _error(self, part: dict[str, Any]) -> None:
        self.message.ending = "error"

    def _abort(self, part: dict[str, Any]) -> None:
        self.message.ending = "abort"

    def _file(self, part: dict[str, Any]) -> None:
        self.message.parts.append(part)

    _source_url = _source_document = _file

    def _data(self, part: dict[str, Any]) -> None:
        if part.get("transient"):
            self.message.transient.append(part)
            return
        same = [
            each for each in self.message.parts if each["type"] == part["type"] and each.get("id") == part.get("id")
        ]
        if same and "id" in part:
            same[0]["data"] = part["data"]
        else:
            self.message.parts.append(part)

    def _text(self, part: dict[str, Any]) -> None:
        kind, _, what = part["type"].partition("-")
        if what == "start":
            assert part["id"] not in self.texts
            self.texts[part["id"]] = {"type": kind, "text": ""}
            self.message.parts.append(self.texts[part["id"]])
        text = self.texts[part["id"]]
        assert text["type"] == kind
        text["text"] += part.get("delta", "")
        if "providerMetadata" in part:
            text["providerMetadata"] = part["providerMetadata"]
        if what == "end":
            del self.texts[part["id"]]

    def _tool(self, part: dict[str, Any]) -> None:
        call, what = part["toolCallId"], part["type"].removeprefix("tool-")
        if what == "input-delta":
            assert call in self._writing, "a delta without its start"
            return
        tool = self._find(call, part.get("toolName"), in_step=what.startswith("input"))
        if what == "input-start":
            self._writing.add(call)
        tool["state"] = _STATES[what]
        names = ("input", "output", "errorText", "providerExecuted")
        tool.update({name: part[name] for name in names if name in part})
        if what == "approval-request":
            tool["approval"] = {"id": part["approvalId"], "signature": part.get("signature")}

    def _find(self, call: str, name: str | None, *, in_step: bool) -> dict[str, Any]:
        parts = self.message.parts
        if in_step:
            steps = [place for place, part in enumerate(parts) if part["type"] == "step-start"]
            parts = parts[steps[-1] :] if steps else parts
        found = [part for part in parts if part.get("toolCallId") == call]
        if not found:
            assert in_step, f"nothing is known of the call {call}"
            assert not any(part.get("toolCallId") == call for part in self.message.parts), f"{call} twice"
            found = [{"type": f"tool-{name}", "toolCallId": call}]
            self.message.parts.append(found[0])
        return found[0]


_STATES = {
    "input-start": "input-streaming",
    "input-available": "input-available",
    "input-error": "output-error",
    "output-available": "output-available",
    "output-error": "output-error",
    "output-denied": "output-denied",
    "approval-request": "approval-requested",
}
