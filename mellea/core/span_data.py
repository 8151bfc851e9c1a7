"""A span as plain data: the one place that reads what spans hold, for exporters, recordings and pages.

Rules:

- Everything is JSON: texts, numbers, booleans, lists, mappings. What isn't known isn't there, rather than 0.
- Content (prompts, answers, arguments and results of tools, requirements and their reasons, messages of errors) is
  there only if it is asked for. Names that the program gives (`name=`, of functions, of tools) are no content.
- Keys are hidden in either case, in whatever field they stand. Of a server, host and port are told.
- Every text can be encoded, and every number of a field has at most 64 bits: files and exporters take no others.
- Messages have the shape of OpenTelemetry's conventions for generative models (autumn 2026): a role and parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from mellea.core.blocks import CBlock, FileBlock, Source, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.events import Usage
from mellea.core.masking import hide_keys, labels, list_known_secrets, scrub_all
from mellea.core.observer import Span
from mellea.core.prices import compute_cost
from mellea.core.runtime.ledger import was_refused
from mellea.core.surrogates import replace_surrogates_in

if TYPE_CHECKING:
    from mellea.core.accumulator import Generation
    from mellea.core.messages import Message

__all__ = [
    "describe_end",
    "describe_error",
    "describe_error_type",
    "describe_message",
    "describe_reasons",
    "describe_span",
    "describe_start",
    "find_span_cost",
]

_OPTIONS = frozenset(
    {"temperature", "max_tokens", "top_p", "top_k", "seed", "stop", "frequency_penalty", "presence_penalty"}
)
"""Options that say how an answer is drawn, and hold no content and no keys."""


def describe_span(span: Span, *, content: bool = False, secrets: Iterable[str] | None = None) -> dict[str, Any]:
    """Return a span as plain data: what is known when it begins, and what has come since.

    Args:
        span: running or ended.
        content: whether what was said is told too.
        secrets: the keys to hide, for a caller who has looked them up for many spans; by default all known ones.
    """
    return _clean({**_read_start(span, content=content), **_read_end(span, content=content)}, content, secrets)


def describe_start(span: Span, *, content: bool = False) -> dict[str, Any]:
    """Return what is known of a span when it begins."""
    return _clean(_read_start(span, content=content), content)


def describe_end(span: Span, *, content: bool = False) -> dict[str, Any]:
    """Return what has become known of a span since it began."""
    return _clean(_read_end(span, content=content), content)


_LEAST, _MOST = -(2**63), 2**63 - 1

_LABELS = frozenset(
    {
        "check",
        "finish_reason",
        "given_name",
        "model",
        "name",
        "provider",
        "response_model",
        "server",
        "session",
        "tool",
        "tool_call_id",
    }
)
"""The fields with texts that don't come from this library, where there is no content; and `response_id`."""

_COUNTS = frozenset(Usage.__slots__)


def _clean(data: dict[str, Any], content: bool, secrets: Iterable[str] | None = None) -> dict[str, Any]:
    """Hide keys, and make every value one that can be written; changes the data itself where it has no content."""
    if content:
        data = replace_surrogates_in(scrub_all(data, list_known_secrets() if secrets is None else secrets))
    else:
        known = labels.refresh()
        for name in _LABELS.intersection(data):
            if isinstance(value := data[name], str):  # a backend of the program's own may have no model
                data[name] = known.scrub(value)
        if "response_id" in data:
            data["response_id"] = known.scrub_id(data["response_id"])
    for name in _COUNTS.intersection(data):
        if not _LEAST <= data[name] <= _MOST:
            data[name] = max(_LEAST, min(data[name], _MOST))
    if options := data.get("options"):
        data["options"] = {name: _clean_option(value) for name, value in options.items()}
    return data


def _clean_option(value: Any) -> Any:
    if isinstance(value, str):
        return labels.refresh().scrub(value)
    if isinstance(value, (list, tuple)):
        return [_clean_option(each) for each in value]
    return max(_LEAST, min(value, _MOST)) if type(value) is int else value


def _read_start(span: Span, *, content: bool) -> dict[str, Any]:
    kind = span.kind
    data: dict[str, Any] = {
        "id": span.id,
        "kind": kind,
        # A check is called by its requirement, which is content.
        "name": "check" if kind == "check" and not content else span.name,
        "started": span.started,
        "is_request": span.is_request,
    }
    if span.parent is not None:
        data["parent"] = span.parent.id
    if span.session is not None:
        data["session"] = span.session
    if span.backend is not None:
        data["provider"], data["model"] = span.backend, span.model
    if span.server is not None:
        data["server"], data["port"] = span.server
    if span.links:
        data["links"] = [link.id for link in span.links]
    if span.number is not None:
        data["number"] = span.number
    if span.is_streaming:
        data["is_streaming"] = True
    if isinstance(name := getattr(span.component, "name", None), str) and name:
        data["given_name"] = name
    if span.tool_call is not None:
        # Not the name in the call: a model may call a tool that doesn't exist, and then the name is the model's text.
        data["tool"], data["tool_call_id"] = span.name, span.tool_call.tool_call_id
    return data


def _read_end(span: Span, *, content: bool) -> dict[str, Any]:
    status = span.status
    data: dict[str, Any] = {"status": status, "seconds": span.seconds}
    if span.error is not None or status == "cancelled":
        data["error_type"] = describe_error_type(span)
    # Only requests have tokens and a cost; if the calls around them had them as well, sums would count them twice.
    if span.is_request:
        _describe_request(span, data)
    if span.attempt is not None:
        data["is_accepted"] = span.attempt.success
    if span.outcome is not None:
        data["is_met"], data["check"] = span.outcome.result, _check_name(span.requirement)
        _add(data, {"score": span.outcome.score})
    if span.result is not None:
        data["is_error"] = span.result.is_error
    if content:
        _describe_content(span, data)
    return data


def _add(data: dict[str, Any], known: Mapping[str, Any]) -> None:
    """Add fields, but for those whose value isn't known, so that zero and unknown aren't mixed up."""
    data.update({name: value for name, value in known.items() if value is not None})


def describe_error_type(span: Span) -> str:
    """Return what ended a span before its time: `"cancelled"`, or the name of the error's class."""
    return "cancelled" if span.status == "cancelled" else type(span.error).__name__


def describe_error(span: Span) -> str:
    """Return the error's class and message, which is content."""
    return f"{type(span.error).__name__}: {_to_text(span.error)}"


def describe_reasons(span: Span) -> list[dict[str, Any]]:
    """Return which requirements an attempt doesn't meet, and why, which is content."""
    return [
        {"requirement": _to_text(requirement), "reason": outcome.reason}
        for requirement, outcome in span.attempt.failures
    ]


def find_span_cost(span: Span) -> float | None:
    """Return what a request cost in US dollars, `None` if that is unknown, as while it runs.

    One that was refused, or was never sent, cost nothing.
    """
    sent = span.request
    return _cost(span, *((span.backend, span.model) if sent is None else (sent.backend, sent.model)))


def _cost(span: Span, provider: str | None, model: str | None) -> float | None:
    said = span.generation
    if said is None or span.ended is None:
        return None
    # An error status before the answer: providers charge nothing for it.
    if said.usage is None and was_refused(span.error):
        return 0.0
    named = said.model or model or ""
    return compute_cost(said.usage, provider or "", named, batch=span.is_batched, asked=model)


def _describe_request(span: Span, data: dict[str, Any]) -> None:
    # Field by field, because this runs for each request, and building dicts of the known values takes twice as long.
    sent, said = span.request, span.generation
    provider, model = span.backend, span.model
    if span.kind in ("image", "video"):
        data["output_type"] = span.kind
    if sent is not None:
        asked = sent.backend, sent.model
        if asked != (provider, model):
            provider, model = data["provider"], data["model"] = asked  # of several models, the one that answered
        if (server := sent.server) is not None and server != span.server:
            data["server"], data["port"] = server
        options = sent.options
        data["options"] = {str(name): options[name] for name in options if name in _OPTIONS} if options else {}
        data["output_type"] = "text" if sent.output_schema is None else "json"
    if span.time_to_first_token is not None:
        data["time_to_first_chunk"] = span.time_to_first_token
    if span.chunk_count is not None:
        data["chunk_count"] = span.chunk_count
    if said is not None:
        _describe_generation(said, data)
        if said.usage is not None and (dollars := _cost(span, provider, model)) is not None:
            data["cost"] = dollars


def _describe_generation(said: Generation, data: dict[str, Any]) -> None:
    if said.model is not None:
        data["response_model"] = said.model
    if said.response_id is not None:
        data["response_id"] = said.response_id
    if said.finish_reason is not None:
        data["finish_reason"] = said.finish_reason
    if (usage := said.usage) is not None:
        for name, tokens in zip(Usage.__slots__, _tokens_of(usage), strict=True):
            if tokens is not None:
                data[name] = tokens  # noqa: PERF403 - a comprehension is one more function


_tokens_of = attrgetter(*Usage.__slots__)


def _describe_content(span: Span, data: dict[str, Any]) -> None:
    if span.error is not None:
        data["error"] = describe_error(span)
    if span.is_request and span.request is not None:
        sent = span.request
        data["messages"] = [describe_message(message) for message in sent.messages]
        _add(data, {"tools": [{"type": "function", "name": tool.name} for tool in sent.tools] or None})
    # Vectors and files are no messages.
    if span.is_request and span.generation is not None and (span.kind == "call" or span.generation.message.blocks):
        said = span.generation
        data["answer"] = {**describe_message(said.message), "finish_reason": said.finish_reason or "error"}
    if span.attempt is not None:
        data["reasons"] = describe_reasons(span)
    if span.requirement is not None:
        data["requirement"] = _to_text(span.requirement)
    if span.outcome is not None:
        _add(data, {"reason": span.outcome.reason})
    if span.tool_call is not None:
        data["arguments"] = hide_keys(span.tool_call.tool_args)
    if span.result is not None:
        data["result"] = _result(span.result)


def _to_text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the program's own `__str__`, which must not cost what else is known
        return f"<{type(value).__name__}, whose __str__ failed>"


def _check_name(requirement: Any) -> str:
    """Return what a check is called without its words: the name of its function or of its class."""
    function = getattr(requirement, "validation_fn", None) or getattr(requirement, "stream_validation_fn", None)
    name = str(getattr(function, "__name__", type(requirement).__name__))
    if str(getattr(function, "__module__", "")).partition(".")[0] == "mellea":
        # The ready-made ones are made by functions, such as `length`, whose inner ones all have the same name.
        name = getattr(function, "__qualname__", name).partition(".")[0]
    return name if name.isidentifier() else type(requirement).__name__


def describe_message(message: Message) -> dict[str, Any]:
    """Return a message as a role and parts."""
    return {"role": message.role, "parts": list(_parts(message.blocks))}


def _parts(blocks: Iterable[Any]) -> Iterable[dict[str, Any]]:
    for block in blocks:
        part = next((make(block) for kind, make in _PARTS.items() if isinstance(block, kind)), None)
        if part is not None:
            yield part


def _call(call: ToolCall) -> dict[str, Any]:
    kind = "server_tool_call" if call.is_builtin else "tool_call"
    return {"type": kind, "id": call.tool_call_id, "name": call.tool_name, "arguments": hide_keys(call.tool_args)}


def _output(output: ToolOutput) -> dict[str, Any]:
    kind = "server_tool_call_response" if output.is_builtin else "tool_call_response"
    return {"type": kind, "id": output.tool_call_id, "response": _result(output)}


def _result(output: ToolOutput) -> Any:
    parts = output.parts
    if len(parts) == 1 and isinstance(parts[0], CBlock):
        return parts[0].value
    return list(_parts(parts))


def _file(file: FileBlock) -> dict[str, Any]:
    """Files are told by their size alone: their bytes would be most of a recording."""
    kind = file.essence.partition("/")[0]
    modality = kind if kind in ("image", "video", "audio") else "document"
    known = {"mime_type": file.essence, "modality": modality}
    if file.data is None:
        return {"type": "uri", **known, "uri": file.url}
    return {"type": "blob", **known, "size": len(file.data)}


_PARTS: Mapping[type, Callable[[Any], dict[str, Any]]] = {
    CBlock: lambda block: {"type": "text", "content": block.value},
    ThinkingBlock: lambda block: {"type": "reasoning", "content": block.text},
    ToolCall: _call,
    ToolOutput: _output,
    FileBlock: _file,
    Source: lambda block: {"type": "source", "uri": block.url, "title": block.title},
}
