"""Saves the context of a conversation as JSON values, and loads it again: the kind `chat_context` of `core.serialise`.

A saved turn is what a model would be shown of it: the messages of its input, rendered, and the generation. Turns that
failed or were cancelled are left out, as no later call sees them. A function (a compactor, a count of tokens) can't be
saved, and isn't left out silently.
"""

from __future__ import annotations

from typing import Any

from mellea.core.accumulator import Generation
from mellea.core.context import Turn
from mellea.core.messages import Message
from mellea.core.serialise import from_jsonable, to_jsonable
from mellea.core.thunk import make_known
from mellea.errors import StateError, UsageError
from mellea.stdlib.components.conversation import Conversation
from mellea.stdlib.context import ChatContext
from mellea.templates.render import render_messages

__all__ = ["dump", "load"]

_FIELDS = {"type", "window_size", "token_budget", "pinned", "turns"}
_TURN_FIELDS = {"input", "output", "is_pinned"}


def dump(context: ChatContext) -> dict[str, Any]:
    """Return the fields of a saved context.

    Raises:
        UsageError: a turn isn't complete yet, or a setting is a function.
    """
    if context.has_own_functions:
        raise UsageError(
            "compactor= and count_tokens= of a ChatContext are functions, which can't be saved: save "
            "ctx.change_settings(compactor=None, count_tokens=None), and give them to the loaded one in the same way"
        )
    data: dict[str, Any] = {"turns": [_dump_turn(*each) for each in context.list_turns() if each[0].is_sound]}
    settings = {
        "window_size": context.window_size,
        "token_budget": context.token_budget,
        "pinned": context.count_own_pins(),
    }
    return {**{name: value for name, value in settings.items() if value}, **data}


def _dump_turn(turn: Turn, is_pinned: bool) -> dict[str, Any]:
    data: dict[str, Any] = {"is_pinned": True} if is_pinned else {}
    if turn.output is not None and not turn.output.record.has_succeeded:
        raise UsageError("a conversation whose last turn isn't computed yet can't be saved; await its thunk first")
    if turn.input is not None:
        said = turn.rendered if isinstance(turn.rendered, tuple) else render_messages(turn.input)
        data["input"] = to_jsonable(list(said))
    if turn.output is not None:
        data["output"] = _dump_generation(turn.output.so_far())
    return data


def _dump_generation(generation: Generation) -> dict[str, Any]:
    """Return a generation without what its messages have, too: text and message would treble its files."""
    data: dict[str, Any] = to_jsonable(generation)
    if generation.messages and generation.messages[-1] == generation.message:
        del data["message"]
        if generation.text == generation.message.content:
            del data["text"]
    return data


def load(data: dict[str, Any], path: str) -> ChatContext:
    """Return the context of saved fields.

    Raises:
        StateError: they aren't such fields.
    """
    _check_fields(data, _FIELDS, path)
    turns = data.get("turns")
    if not isinstance(turns, list):
        raise StateError(f"{path}.turns is not a list: {turns!r:.80}")
    loaded = [_load_turn(turn, f"{path}.turns[{number}]") for number, turn in enumerate(turns)]
    count = data.get("pinned", 0)
    own = [turn for turn, _ in loaded[:count]] if type(count) is int and 0 <= count <= len(loaded) else None
    if own is None or any(turn.input is None or turn.output is not None for turn in own):
        raise StateError(f"{path}.pinned is not a number of its first turns: {count!r:.80}")
    try:
        context = ChatContext(
            window_size=data.get("window_size"),
            token_budget=data.get("token_budget"),
            pinned=[turn.input for turn in own],
        )
    except UsageError as error:
        raise StateError(f"{path} isn't valid: {error}") from None
    for turn, is_pinned in loaded[count:]:
        context = context.add(turn)
        context = context.pin() if is_pinned else context
    return context


def _load_turn(data: Any, path: str) -> tuple[Turn, bool]:
    if not isinstance(data, dict):
        raise StateError(f"{path} is not an object: {data!r:.80}")
    _check_fields(data, _TURN_FIELDS, path)
    is_pinned = data.get("is_pinned", False)
    if type(is_pinned) is not bool:
        raise StateError(f"{path}.is_pinned is not true or false: {is_pinned!r:.80}")
    said = _load_input(data["input"], f"{path}.input") if "input" in data else None
    output = make_known(_load_generation(data["output"], f"{path}.output")) if "output" in data else None
    if said is None and output is None:
        raise StateError(f"{path} has neither an input nor an output")
    return Turn(said, output), is_pinned


def _load_input(data: Any, path: str) -> Message | Conversation:
    said = from_jsonable(data, path)
    if not isinstance(said, list) or not said or not all(isinstance(each, Message) for each in said):
        raise StateError(f"{path} is not a list of messages: {data!r:.80}")
    return said[0] if len(said) == 1 else Conversation(said)


def _load_generation(data: Any, path: str) -> Generation:
    if isinstance(data, dict) and "message" not in data and isinstance(data.get("messages"), list) and data["messages"]:
        data = {**data, "message": data["messages"][-1]}
        if "text" not in data:
            message = from_jsonable(data["message"], f"{path}.messages")
            data["text"] = message.content if isinstance(message, Message) else ""
    generation = from_jsonable(data, path)
    if not isinstance(generation, Generation):
        raise StateError(f"{path} is not a generation: {data!r:.80}")
    return generation


def _check_fields(data: dict[str, Any], known: set[str], path: str) -> None:
    # Rejected rather than dropped: an unknown field has a meaning in a newer version.
    if unknown := sorted(data.keys() - known):
        raise StateError(f"{path} has the unknown field {unknown[0]!r:.80}")
