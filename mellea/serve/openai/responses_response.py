"""Writes responses: a complete one, or its events.

Rules of the stream: every event has the next `sequence_number`; every item has a unique `output_index`; an item is
added, written and done, with its parts inside; the last event has the complete response.

Source: OpenAI's API reference, "Streaming events", and what the stream reader of the package `openai` 3.57 needs
(2026-11).
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from mellea.core.blocks import Block, CBlock, Source, ToolCall
from mellea.core.events import (
    Event,
    FileEvent,
    ReasoningDelta,
    SourceEvent,
    StreamEnd,
    TextDelta,
    ToolDelta,
    ToolEnd,
    ToolStart,
    Usage,
    UsageEvent,
)
from mellea.core.messages import Message, parse_tool_call
from mellea.core.surrogates import replace_surrogates
from mellea.serve.openai.failures import ApiError, refuse, to_api_error
from mellea.serve.response import Encoder, Ending, Refusal
from mellea.serve.served_request import write_arguments

__all__ = ["ResponseEncoder", "ResponseFold", "Written"]

Json = dict[str, Any]

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Written(Event):
    """An event of the response, as it is written."""

    __slots__ = ("json",)

    def __init__(self, json: Json) -> None:
        self.json = json


class ResponseFold:
    """Assembles a response, and returns what to write for each event.

    Args:
        model: the id of the model.
        echo: fields of the request that the response repeats.
        is_stored: whether later requests may continue it.
    """

    def __init__(self, model: str, echo: Mapping[str, Any], *, is_stored: bool) -> None:
        self.id = f"resp_{secrets.token_hex(16)}"
        self._head = {
            "id": self.id,
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "background": False,
            "store": is_stored,
            **echo,
        }
        # The items as they will be sent; texts are collected separately, since `+=` on a long text is quadratic.
        self._output: list[Json] = []
        self._open: tuple[str, int] | None = None  # the text or reasoning that is being written, and where
        self._length = 0  # of what is being written
        self._calls: dict[str, int] = {}
        self._chunks: dict[int, list[str]] = {}  # of the items that are being written; joined when they are done
        self._usage = Usage()
        self._incomplete: str | None = None
        self._count = 0
        self._new: list[Written] = []

    # -- the whole ------------------------------------------------------------------------------------

    def write(self, status: str, error: ApiError | None = None) -> Json:
        """Return the response.

        Args:
            status: `in_progress`, `completed`, `incomplete` or `failed`.
            error: the error, if it failed.
        """
        incomplete = None if self._incomplete is None else {"reason": self._incomplete}
        return {
            **self._head,
            "status": status,
            "error": None if error is None else {"code": error.code or error.type, "message": error.message},
            "incomplete_details": incomplete if status == "incomplete" else None,
            # Copies, since the events are written later, when the items may have grown.
            "output": [_copy(item) for item in self._output],
            "usage": None if status in ("in_progress", "failed") else self._write_usage(),
        }

    @property
    def status(self) -> str:
        """`completed`, or `incomplete` if the answer was truncated."""
        return "completed" if self._incomplete is None else "incomplete"

    @property
    def message(self) -> Message:
        """The answer as a message, for requests that continue it."""
        blocks: list[Block] = []
        for item in self._output:
            # Reasoning is left out: only the model that wrote it could continue from it.
            if item["type"] == "message":
                blocks.append(CBlock(item["content"][0]["text"]))
            elif item["type"] == "function_call":
                blocks.append(parse_tool_call(item["call_id"], item["name"], item["arguments"]))
        return Message("assistant", blocks)

    def _write_usage(self) -> Json:
        usage = self._usage
        read, written = usage.input_tokens or 0, usage.output_tokens or 0
        return {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens or 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
            "total_tokens": read + written,
        }

    # -- the events -----------------------------------------------------------------------------------

    def feed(self, event: Event) -> list[Written]:
        """Take an event of the model, and return what to write for it."""
        self._begin()
        match event:
            case TextDelta() if event.chunk:
                self._write_text("text", event.chunk)
            case ReasoningDelta() if event.chunk:
                self._write_text("reasoning", event.chunk)
            case SourceEvent():
                self._cite(event.source)
            case FileEvent() if event.media_type.startswith("image/") and event.data is not None:
                self._write_image(event.data)
            case ToolStart():
                self._begin_call(event.tool_call_id, event.tool_name)
            case ToolDelta() if event.chunk:
                self._continue_call(event.tool_call_id, event.chunk)
            case ToolEnd():
                self._end_call(event.tool_call)
            case UsageEvent():
                self._usage = self._usage.merge(event.usage)
            case StreamEnd():
                self._incomplete = _INCOMPLETE.get(event.finish_reason)
        return self._take()

    def close(self) -> list[Written]:
        """Return what to write for items that are still open at the end."""
        self._begin()
        self._close_text()
        self._close_calls()
        return self._take()

    def finish(self) -> list[Written]:
        """Return what to write at the end: that it is complete, or truncated."""
        self._say(f"response.{self.status}", response=self.write(self.status))
        return self._take()

    def fail(self, error: ApiError) -> list[Written]:
        """Return what to write for a failure."""
        self._begin()
        self._close_text("incomplete")
        self._close_calls()
        self._say("response.failed", response=self.write("failed", error))
        return self._take()

    def _take(self) -> list[Written]:
        new, self._new = self._new, []
        return new

    def _say(self, type: str, **fields: Any) -> None:
        self._new.append(Written({"type": type, "sequence_number": self._count, **fields}))
        self._count += 1

    def _begin(self) -> None:
        # At the first event, not at creation: an earlier failure has a status instead of a stream.
        if self._count == 0:
            self._say("response.created", response=self.write("in_progress"))
            self._say("response.in_progress", response=self.write("in_progress"))

    def _add(self, item: Json) -> int:
        index = len(self._output)
        self._output.append(item)
        self._chunks[index] = []
        self._say("response.output_item.added", output_index=index, item=_copy(item))
        return index

    def _place(self, index: int) -> Json:
        return {"item_id": self._output[index]["id"], "output_index": index}

    def _end(self, index: int, status: str) -> None:
        item = self._output[index]
        item["status"] = status
        self._say("response.output_item.done", output_index=index, item=_copy(item))

    def _write_text(self, kind: str, chunk: str) -> None:
        # Text and reasoning alternate as separate items; an item can't be opened again.
        if self._open is None or self._open[0] != kind:
            self._close_text()
            self._open = (kind, self._begin_text(kind))
        index = self._open[1]
        self._chunks[index].append(chunk)
        self._length += len(chunk)
        place = {**self._place(index), "content_index": 0, "delta": chunk}
        if kind == "text":
            self._say("response.output_text.delta", **place, logprobs=[])
        else:
            self._say("response.reasoning_text.delta", **place)

    def _begin_text(self, kind: str) -> int:
        if kind == "text":
            item: Json = {"id": _make_id("msg"), "type": "message", "role": "assistant"}
            part: Json = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        else:
            item = {"id": _make_id("rs"), "type": "reasoning", "summary": []}
            part = {"type": "reasoning_text", "text": ""}
        self._length = 0
        index = self._add({**item, "status": "in_progress", "content": []})
        self._output[index]["content"].append(part)
        self._say("response.content_part.added", **self._place(index), content_index=0, part=_copy_part(part))
        return index

    def _cite(self, source: Source) -> None:
        """Add a citation to the current text; start one if there is none."""
        if self._open is None or self._open[0] != "text":
            self._close_text()
            self._open = ("text", self._begin_text("text"))
        index = self._open[1]
        cited = self._output[index]["content"][0]["annotations"]
        if source.url:
            url = source.url
            found: Json = {"type": "url_citation", "url": url, "title": source.title or url}
            found |= {"start_index": self._length, "end_index": self._length}
        else:
            name = source.title or "source"
            found = {"type": "file_citation", "file_id": name, "filename": name, "index": self._length}
        self._say(
            "response.output_text.annotation.added",
            **self._place(index),
            content_index=0,
            annotation_index=len(cited),
            annotation=found,
        )
        cited.append(found)

    def _write_image(self, data: bytes) -> None:
        self._close_text()
        image = {"id": _make_id("ig"), "type": "image_generation_call", "status": "in_progress", "result": None}
        index = self._add(image)
        del self._chunks[index]  # it has no deltas
        self._output[index]["result"] = base64.b64encode(data).decode()
        self._end(index, "completed")

    def _close_text(self, status: str = "completed") -> None:
        if self._open is None:
            return
        (kind, index), self._open = self._open, None
        part = self._output[index]["content"][0]
        part["text"] = "".join(self._chunks.pop(index))
        place = {**self._place(index), "content_index": 0}
        if kind == "text":
            self._say("response.output_text.done", **place, text=part["text"], logprobs=[])
        else:
            self._say("response.reasoning_text.done", **place, text=part["text"])
        self._say("response.content_part.done", **place, part=_copy_part(part))
        self._end(index, status)

    def _begin_call(self, id: str, name: str) -> int:
        if id in self._calls:
            return self._calls[id]
        self._close_text()
        call = {"id": _make_id("fc"), "type": "function_call", "call_id": id, "name": name, "arguments": ""}
        index = self._calls[id] = self._add({**call, "status": "in_progress"})
        return index

    def _continue_call(self, id: str, chunk: str) -> None:
        index = self._calls.get(id)
        if index in self._chunks:
            self._chunks[index].append(chunk)
            self._say("response.function_call_arguments.delta", **self._place(index), delta=chunk)

    def _end_call(self, call: ToolCall) -> None:
        index = self._calls.get(call.tool_call_id)
        # A provider that sends complete calls has neither start nor deltas.
        if index is None:
            index = self._begin_call(call.tool_call_id, call.tool_name)
        if index not in self._chunks:  # a second call with the same id couldn't be answered
            return
        if not self._chunks[index]:
            self._continue_call(call.tool_call_id, write_arguments(call))
        item = self._output[index]
        item["arguments"] = "".join(self._chunks.pop(index))
        self._say(
            "response.function_call_arguments.done",
            **self._place(index),
            name=item["name"],
            arguments=item["arguments"],
        )
        self._end(index, "completed")

    def _close_calls(self) -> None:
        """End the calls that the model never completed, which clients don't run."""
        # The rest of `_chunks` was never completed.
        for index in [index for index in self._calls.values() if index in self._chunks]:
            self._output[index]["arguments"] = "".join(self._chunks.pop(index))
            self._end(index, "incomplete")


class ResponseEncoder(Encoder):
    """Writes the events of a response.

    Args:
        fold: puts the response together.
    """

    opening: ClassVar[bytes] = b""
    begins_at_once: ClassVar[bool] = False  # an error before the first token has its own status

    def __init__(self, fold: ResponseFold) -> None:
        self._fold = fold

    def feed(self, value: Written) -> bytes:
        """Return the event as a server-sent one."""
        text = json.dumps(value.json, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        # With the event's name in a separate line, like OpenAI.
        return replace_surrogates(f"event: {value.json['type']}\ndata: {text}\n\n").encode()

    def finish(self, ending: Ending) -> bytes | None:
        """Encode a failure; after a stop nothing, so that the client can tell."""
        if ending.is_stopped:
            return None
        if ending.error is None:
            return b""  # the last event has been written
        return b"".join(map(self.feed, self._fold.fail(to_api_error(ending.error))))

    def refuse(self, error: BaseException) -> Refusal:
        """Return the response if nothing has been written yet."""
        return refuse(error)


def _make_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"


def _copy(item: Json) -> Json:
    return {**item, "content": list(map(_copy_part, item["content"]))} if "content" in item else dict(item)


def _copy_part(part: Json) -> Json:
    return {**part, "annotations": list(part["annotations"])} if "annotations" in part else dict(part)
