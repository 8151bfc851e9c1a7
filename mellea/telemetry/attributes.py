"""The plain data of a span (`core/span_data.py`) under the names of OpenTelemetry's conventions: `semconv.py` has them.

It serves spans as they happen (`spans.py`) and spans of a record (`export.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mellea.telemetry import semconv

__all__ = [
    "begin_attributes",
    "describe_evaluation",
    "end_attributes",
    "is_remote",
    "name_span",
    "write_content",
    "write_messages",
]


def name_span(data: Mapping[str, Any]) -> str:
    """Return a span's name by the conventions: its operation and its subject."""
    operation = _name_operation(data)
    if operation is None:
        return str(data["name"])
    subject = data.get(semconv.SUBJECTS[operation][0])
    return operation if subject is None else f"{operation} {subject}"


def begin_attributes(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that a span has when it begins."""
    operation = _name_operation(data)
    attributes = _rename(data)
    if "provider" in data:
        # Providers that the conventions don't name keep our name, as the conventions ask.
        attributes[semconv.PROVIDER_NAME] = semconv.PROVIDERS.get(data["provider"], data["provider"])
    if operation is not None:
        attributes[semconv.OPERATION_NAME] = operation
        field, attribute = semconv.SUBJECTS[operation]
        if data.get(field) is not None:
            attributes[attribute] = data[field]
    if data["is_request"] and "given_name" in data:
        attributes[semconv.PROMPT_NAME] = data["given_name"]
    if data["kind"] == "tool":
        attributes[semconv.TOOL_TYPE] = "function"
    return attributes


def _name_operation(data: Mapping[str, Any]) -> str | None:
    kind = data["kind"]
    # A call of several requests isn't a request itself, and would be counted twice under the operation "chat".
    return semconv.OPERATIONS.get("workflow" if kind == "call" and not data["is_request"] else kind)


def is_remote(data: Mapping[str, Any]) -> bool:
    """Whether a span is a request to another process."""
    return bool(data["is_request"]) and data.get("provider") not in semconv.IN_PROCESS


def end_attributes(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that a span has at its end, without content."""
    # Renamed once more: model, tokens and errors are only known at the end.
    attributes = _rename(data)
    if "provider" in data:
        attributes[semconv.PROVIDER_NAME] = semconv.PROVIDERS.get(data["provider"], data["provider"])
    for name, value in data["options"].items() if data.get("options") else ():
        # One text is allowed, too; the conventions have a list.
        attributes[semconv.OPTIONS[name]] = (value,) if name == "stop" and isinstance(value, str) else value
    if "finish_reason" in data:
        attributes[semconv.FINISH_REASONS] = (data["finish_reason"],)
    return attributes


def write_content(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes with the content, as JSON."""
    found = write_messages(data)
    for field, attribute in semconv.JSON_ATTRIBUTES.items():
        if field in data:
            found[attribute] = _write_json(data[field])
    return found


def _rename(data: Mapping[str, Any]) -> dict[str, Any]:
    table = semconv.ATTRIBUTES
    return {table[field]: value for field, value in data.items() if field in table}


def write_messages(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the messages of a request and its answer, as JSON, by the names of their attributes."""
    found: dict[str, str] = {}
    messages = data.get("messages", ())
    # The conventions keep the system prompt separate from the messages.
    system = [part for message in messages if message["role"] == "system" for part in message["parts"]]
    if system:
        found[semconv.SYSTEM_INSTRUCTIONS] = _write_json(system)
    if messages:
        found[semconv.INPUT_MESSAGES] = _write_json([message for message in messages if message["role"] != "system"])
    if "answer" in data:
        found[semconv.OUTPUT_MESSAGES] = _write_json([data["answer"]])
    return found


def describe_evaluation(data: Mapping[str, Any], *, content: bool = True) -> dict[str, Any]:
    """Return the attributes of a check's event, which its span has, too: many viewers show no events.

    Args:
        data: of a check that has ended.
        content: whether to include the requirement and the reason, if they are there.
    """
    score = data.get("score")
    result = {
        semconv.EVALUATION_NAME: (data.get("requirement") if content else None) or data["check"],
        semconv.EVALUATION_LABEL: "pass" if data["is_met"] else "fail",
        # A check without a score is 1 or 0, so that means over checks are rates.
        semconv.EVALUATION_SCORE: float(data["is_met"]) if score is None else score,
    }
    if content and "reason" in data:
        result[semconv.EVALUATION_EXPLANATION] = data["reason"]
    return result


def _write_json(value: Any) -> str:
    # `default=str`, since an unserialisable value in a trace must never fail the program.
    return json.dumps(value, ensure_ascii=False, default=str)
