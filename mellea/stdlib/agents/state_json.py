"""Converts the state of a loop to JSON values and back. Unknown or inconsistent values are rejected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args

from mellea.core.blocks import ToolOutput
from mellea.core.messages import Message
from mellea.core.serialise import from_jsonable, json_value, to_jsonable
from mellea.errors import StateError
from mellea.stdlib.tools import Deny, Edited, LoopState, Question
from mellea.stdlib.tools.loop_state import Answer, OutsideResult, QuestionKind

__all__ = ["FIELDS", "check_fields", "dump_answer", "dump_messages", "dump_state", "load_state"]

T = TypeVar("T")

_DEEPEST = 50
"""Levels of sub-agents in a state."""


FIELDS: dict[str, Callable[[Any], Any]] = {
    # A question's call is the one with the same key in the answer.
    "asked": lambda asked: [{"id": each.id, "kind": each.kind, "text": each.text} for each in asked],
    "added": to_jsonable,
    "spent": lambda spent: json_value(dict(spent)),
    "limit": lambda limit: limit,
    "is_done": bool,
}
"""The fields that are written in full if they have changed, and how."""


def dump_messages(messages: Sequence[Message], path: str = "") -> Any:
    """Return messages as JSON values; `path` is only used by other functions of this kind."""
    return to_jsonable(messages)


def dump_state(
    state: LoopState, dump_messages: Callable[[Sequence[Message], str], Any] = dump_messages, path: str = ""
) -> dict[str, Any]:
    """Return a state as JSON values, without empty fields.

    Args:
        state: the state.
        dump_messages: converts the messages; called with them and the path of a sub-agent's state.
        path: that of this state.

    Raises:
        UsageError: something in it has no JSON form.
    """
    data: dict[str, Any] = {name: dump(getattr(state, name)) for name, dump in FIELDS.items()}
    data["outputs"] = {key: to_jsonable(output) for key, output in state.outputs.items()}
    data["answers"] = {key: dump_answer(answer) for key, answer in state.answers.items()}
    nested = state.nested.items()
    data["nested"] = {key: dump_state(inner, dump_messages, f"{path}/{key}") for key, inner in nested}
    found = {name: value for name, value in data.items() if value}
    return {"messages": dump_messages(state.messages, path), "starts": list(state.starts), **found}


def load_state(data: Any, path: str = "state", depth: int = 0) -> LoopState:
    """Return the state from the JSON values that `dump_state` made.

    Args:
        data: the JSON values, from anywhere.
        path: where they are, for errors.
        depth: how many sub-agents deep.

    Raises:
        StateError: it isn't one.
    """
    # The state may be hostile; without a limit a deep one would cause a RecursionError, or overflow the C stack.
    if depth > _DEEPEST:
        raise StateError(f"{path} is nested too deeply")
    # Unknown fields are rejected rather than dropped: a later version's state could mean something else without them.
    check_fields(data, path, {"messages": list}, _OPTIONAL)
    messages = _load_messages(data, "messages", path)
    # Built twice: questions refer to the calls of the last answer, which only a state can find.
    state = LoopState(messages, _load_starts(data, path, len(messages)), limit=data.get("limit"))
    calls = state.calls
    return LoopState(
        state.messages,
        state.starts,
        _load_map(data, "outputs", path, lambda value, where: _load_one(value, where, ToolOutput)),
        tuple(_load_question(each, f"{path}.asked[{n}]", calls) for n, each in enumerate(data.get("asked", ()))),
        _load_map(data, "answers", path, _load_answer),
        _load_map(data, "nested", path, lambda value, where: load_state(value, where, depth + 1)),
        _load_messages(data, "added", path),
        data.get("spent", {}),
        state.limit,
        data.get("is_done", False),
    )


_OPTIONAL: dict[str, type] = {
    "starts": list,
    "outputs": dict,
    "asked": list,
    "answers": dict,
    "nested": dict,
    "added": list,
    "spent": dict,
    "limit": str,
    "is_done": bool,
}


def check_fields(data: Any, path: str, needed: Mapping[str, type], optional: Mapping[str, type]) -> None:
    """Reject anything but an object with these fields.

    Raises:
        StateError: it isn't.
    """
    if not isinstance(data, dict):
        raise StateError(f"{path} is not an object: {data!r:.80}")
    for name, value in data.items():
        kind = needed.get(name) or optional.get(name)
        if kind is None:
            raise StateError(f"{path} has the unknown field {name!r:.80}")
        # Exact types: `isinstance` would take `True` for a whole number.
        if type(value) is not kind:
            raise StateError(f"{path}.{name} is not a value of the type {kind.__name__}: {value!r:.80}")
    for name in needed:
        if name not in data:
            raise StateError(f"{path} lacks the field {name!r:.80}")


def _load_messages(data: dict[str, Any], name: str, path: str) -> tuple[Message, ...]:
    return tuple(_load_one(each, f"{path}.{name}[{n}]", Message) for n, each in enumerate(data.get(name, ())))


def _load_starts(data: dict[str, Any], path: str, count: int) -> tuple[int, ...]:
    starts = data.get("starts", [])
    # In order and within the messages, in one comparison; `list_steps` slices by them.
    is_sound = all(type(start) is int for start in starts) and [0, *starts, count] == sorted([0, *starts, count])
    if not is_sound:
        raise StateError(f"{path}.starts should be ascending positions in its {count} messages, not {starts!r:.80}")
    return tuple(starts)


def _load_map(data: dict[str, Any], name: str, path: str, load: Callable[[Any, str], T]) -> dict[str, T]:
    return {key: load(value, f"{path}.{name}[{key!r}]") for key, value in data.get(name, {}).items()}


def _load_one(data: Any, path: str, kind: type[T]) -> T:
    value = from_jsonable(data, path)
    if not isinstance(value, kind):
        raise StateError(f"{path} is not a {kind.__name__}")
    return value


def _load_question(data: Any, path: str, calls: Mapping[str, Any]) -> Question:
    check_fields(data, path, {"id": str, "kind": str, "text": str}, {})
    if data["kind"] not in get_args(QuestionKind):
        known = ", ".join(map(repr, get_args(QuestionKind)))
        raise StateError(f"{path}.kind should be one of {known}, not {data['kind']!r}")
    # A question about no call couldn't be answered, and would keep the run waiting forever.
    if data["id"] not in calls:
        raise StateError(f"{path} asks about the call {data['id']!r}, which the state doesn't have")
    return Question(data["id"], data["kind"], calls[data["id"]], data["text"])


def dump_answer(answer: Answer) -> dict[str, Any]:
    """Return the answer about a call as JSON values."""
    if isinstance(answer, Deny):
        return {"denied": answer.reason}
    if isinstance(answer, Edited):
        return {"edited": json_value(dict(answer.args))}
    if isinstance(answer, OutsideResult):
        return {"result": to_jsonable(ToolOutput("", "", answer.result, value=answer.value))}
    return {"approved": answer}


def _load_answer(data: Any, path: str) -> Answer:
    check_fields(data, path, {}, {"denied": str, "edited": dict, "result": dict, "approved": bool})
    # `rest` has to be empty: with two answers, the order of the cases would decide which one counts.
    match data:
        case {"denied": reason, **rest} if not rest:
            return Deny(reason)
        case {"edited": args, **rest} if not rest:
            return Edited(args)
        case {"result": output, **rest} if not rest:
            given = _load_one(output, f"{path}.result", ToolOutput)
            return OutsideResult(given.result, given.value)
        case {"approved": bool(answer), **rest} if not rest:
            return answer
    raise StateError(f"{path} is not an answer: {data!r:.80}")
