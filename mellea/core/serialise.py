"""Messages, blocks, events, tool calls and their results, usage and generations as versioned JSON, and back.

A document is `{"format": "mellea", "version": 1, "value": …}`. Each value in it is an object whose `"type"` names its
kind and whose other fields are those of the class; a field that has its default is left out. Bytes are base64, free
values (the result of a tool) are JSON. Anything unknown (a version, a kind, a field, a value of the wrong type) is
rejected when it is read: nothing is guessed, and no class is looked up by a name from outside. `docs/saved_state.md`
has the schema. The kinds of higher layers, such as the context of a conversation, are in `mellea._saved_kinds`.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mellea._saved_kinds import find_kind
from mellea.core import events
from mellea.core.accumulator import Generation
from mellea.core.backend import OutputSchema, ToolExample, ToolSpec
from mellea.core.blocks import Block, CBlock, FileBlock, ImageBlock, Source, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.entrance import short_errors
from mellea.core.messages import Message
from mellea.core.surrogates import replace_surrogates, replace_surrogates_in
from mellea.errors import StateError, UsageError

__all__ = [
    "KINDS",
    "LARGEST",
    "VERSION",
    "from_json",
    "from_jsonable",
    "json_value",
    "read_document",
    "to_json",
    "to_jsonable",
    "write_document",
]

T = TypeVar("T")

VERSION = 1
"""The version that is written, and the only one that is read."""

LARGEST = 64 * 2**20
"""Characters of a document, unless a call sets another limit."""

_FORMAT = "mellea"
_LARGEST_INT = 2**63 - 1  # larger ones are written first: Python writes no number of thousands of digits

KINDS: dict[str, type] = {
    "message": Message,
    "text": CBlock,
    "file": FileBlock,
    "image": ImageBlock,
    "thinking": ThinkingBlock,
    "tool_call": ToolCall,
    "tool_output": ToolOutput,
    "source": Source,
    "usage": events.Usage,
    "generation": Generation,
    "tool_spec": ToolSpec,
    "tool_example": ToolExample,
    "output_schema": OutputSchema,
    "text_delta": events.TextDelta,
    "reasoning_delta": events.ReasoningDelta,
    "tool_start": events.ToolStart,
    "tool_delta": events.ToolDelta,
    "tool_end": events.ToolEnd,
    "tool_progress": events.ToolProgress,
    "tool_result": events.ToolResult,
    "builtin_tool_start": events.BuiltinToolStart,
    "builtin_tool_end": events.BuiltinToolEnd,
    "builtin_tool_result": events.BuiltinToolResult,
    "file_event": events.FileEvent,
    "source_event": events.SourceEvent,
    "usage_event": events.UsageEvent,
    "stream_end": events.StreamEnd,
    "attempt_start": events.AttemptStart,
    "attempt_rejected": events.AttemptRejected,
    "attempt_accepted": events.AttemptAccepted,
    "chunk_validated": events.ChunkValidated,
    "step_start": events.StepStart,
    "step_end": events.StepEnd,
    "nested_event": events.NestedEvent,
    "steered": events.Steered,
}
"""Every kind that can be saved, by its name in the JSON. The names are part of the format: they never change.

A provider's own tool isn't among them: its declaration may hold a key."""

_NAMES = {cls: name for name, cls in KINDS.items()}

_DEEPEST = 100
"""Levels of nesting in a free value, far below where Python's own recursion ends."""

_DEEPEST_DOCUMENT = 500
_DEEPEST_VALUE = 200  # pydantic's serialiser ends at 255, and a request is nested itself
"""Levels of nesting in a document: a free value takes two for each of its own, and is in a few others."""


@short_errors
def to_json(value: Any, *, limit: int = LARGEST) -> str:
    """Return a value of one of the kinds, or a list of them, as a JSON document.

    A computed thunk is saved as the messages of its answer: the assistant's, and calls and results of tools before it.

    Lone surrogates become U+FFFD. A free value (a tool's result, its progress) is written as JSON: a dataclass
    or a pydantic model comes back as a dict, a tuple as a list, NaN as the text "NaN". A `value` that is only meant
    for the program and has no JSON form comes back as `None`.

    Args:
        value: a `ChatContext`, message, computed thunk, block, event, usage, generation, tool's or output's schema, or
            a list of such values.
        limit: the most characters that the document may have.

    Raises:
        UsageError: the value has an unknown kind, contains an uncomputed thunk, has no JSON form or is too big.
    """
    return write_document(to_jsonable(value), limit=limit)


def write_document(value: Any, *, format: str = _FORMAT, version: int = VERSION, limit: int = LARGEST) -> str:
    """Return a JSON value as a document with a format and its version.

    Raises:
        UsageError: the value has no JSON form or is too big.
    """
    document = {"format": format, "version": version, "value": value}
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, RecursionError) as error:  # such as an integer of more digits than Python prints
        raise UsageError(f"the value has no JSON form: {error}") from None
    text = replace_surrogates(
        text
    )  # lone surrogates are inside the quotes, so that the whole text can be repaired at once
    if len(text) > limit:
        raise UsageError(f"the document has {len(text):,} characters, more than limit={limit:,}; raise limit=")
    return text


@short_errors
def from_json(text: str | bytes, kind: type[T] | None = None, *, limit: int = LARGEST) -> Any:
    """Return the value, or the list of values, that `to_json` wrote.

    Args:
        text: the document, from anywhere.
        kind: the class that the value, or each value of the list, has to be an instance of.
        limit: the most characters (or bytes) that the document may have.

    Raises:
        StateError: it isn't such a document, its version or a kind in it is unknown, or a value has the wrong type.
    """
    if not isinstance(text, (str, bytes)):
        raise UsageError(f"from_json takes JSON as text, not {text!r}")
    try:
        value = from_jsonable(read_document(text, limit=limit))
    except RecursionError:
        raise StateError("the saved state is nested too deeply") from None
    for one in value if isinstance(value, list) else [value]:
        if kind is not None and not isinstance(one, kind):
            raise StateError(f"the saved state holds a {_name_kind(one)!r}, not a {_name_of(kind)}")
    return value


def to_jsonable(value: Any) -> Any:
    """Return a value of one of the kinds, or a list of them, as a JSON value for a larger document.

    Raises:
        UsageError: see `to_json`.
    """
    if isinstance(value, (list, tuple)):
        return [to_jsonable(item) for each in value for item in _take_messages(each)]
    messages = _take_messages(value)
    return to_jsonable(messages) if len(messages) > 1 else _dump_one(messages[0])


def _take_messages(value: Any) -> Sequence[Any]:
    """Return the messages of a thunk's answer, which have its role and its tool calls; and any other value alone."""
    if not _is_thunk(value):
        return (value,)
    generation = _check_computed(value)
    return generation.messages or (generation.message,)


def _is_thunk(value: Any) -> bool:
    return hasattr(type(value), "avalue")


def _check_computed(thunk: Any) -> Generation:
    # By its run: a stream computes a thunk that nobody awaits.
    if not thunk.record.has_succeeded:
        why = "has failed" if thunk.has_failed() else "isn't computed yet; await it first"
        raise UsageError(f"a thunk, or a message with one, can't be saved if the thunk {why}")
    generation: Generation = thunk.so_far()
    return generation


def _dump_one(value: Any) -> Any:
    if _is_thunk(value):  # among a message's blocks: it becomes its text, which is what the model was shown
        value = CBlock(_check_computed(value).text)
    cls: type = type(value)
    name = _NAMES.get(cls)
    # In the class itself: a subclass has state of its own, which would be lost.
    kind = vars(cls).get("saved_kind")
    if name is None and (home := find_kind(kind)) is not None:
        return {"type": kind, **home.dump(value)}
    if name is None:
        raise UsageError(
            f"{value!r} can't be saved; to_json takes {', '.join(_list_classes())}, or lists of them{_advise(value)}"
        )
    data: dict[str, Any] = {"type": name}
    for field in _read_schema(cls).values():
        item = getattr(value, field.name)
        # Defaults are left out, so documents stay short, and a field that is added later doesn't change old ones.
        if field.is_required or (item is not None if field.default is None else item != field.default):
            data[field.name] = field.form.dump(item)
    return data


def from_jsonable(data: Any, path: str = "value") -> Any:
    """Return the value, or the list of values, from a JSON value made by `to_jsonable`.

    Args:
        data: the JSON value.
        path: where it is, for errors.

    Raises:
        StateError: see `from_json`.
    """
    if isinstance(data, list):
        return [from_jsonable(item, f"{path}[{number}]") for number, item in enumerate(data)]
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise StateError(f"{path} is not an object with a 'type': {_shorten(data)}")
    cls = KINDS.get(data["type"])
    if cls is None and (home := find_kind(data["type"])) is not None:
        return home.load(data, path)
    if cls is None:
        raise StateError(
            f"{path} is of the unknown kind {data['type']!r:.80}; a newer version of mellea may have saved it"
        )
    return _make(cls, data, path)


def _make(cls: type, data: dict[str, Any], path: str) -> Any:
    schema = _read_schema(cls)
    for name in data:
        # An unknown field is rejected rather than dropped: it has a meaning in a newer version.
        if name not in schema and name != "type":
            raise StateError(f"{path} has the unknown field {name!r:.80}")
    values = {}
    for name, field in schema.items():
        if name in data:
            values[name] = field.form.load(data[name], f"{path}.{name}")
        elif field.is_required:
            raise StateError(f"{path} lacks the field {name!r}")
    try:
        return Message(values["role"], values["blocks"]) if cls is Message else cls(**values)
    except UsageError as error:  # the class has its own rules, such as either data or url
        raise StateError(f"{path} isn't valid: {error}") from None


def _check_depth(document: Any, deepest: int = _DEEPEST_DOCUMENT) -> None:
    """Raise a `RecursionError` for a value that is nested too deeply; Python's own limit varies."""
    # Level by level, since a deep document would attack a recursive check.
    level, depth = [document], 0
    while level:
        depth += 1
        if depth > deepest:
            raise RecursionError("nested too deeply")
        nested = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list))]
        level = [child for children in nested for child in children]


def read_document(text: str | bytes, *, format: str = _FORMAT, version: int = VERSION, limit: int = LARGEST) -> Any:
    """Return the JSON value of a document that `write_document` wrote.

    Raises:
        StateError: it isn't a document of that format and version, or it is too big.
    """
    if len(text) > limit:
        raise StateError(f"the saved state has {len(text):,} characters, more than limit={limit:,}; raise limit=")
    try:
        whole = replace_surrogates(text if isinstance(text, str) else text.decode())
        # `NaN` and `Infinity` are Python's own; what was saved never has them.
        document = json.loads(whole, parse_constant=_refuse_constant)
        _check_depth(document)
    except RecursionError:
        raise StateError("the saved state is nested too deeply") from None
    except ValueError as error:
        raise StateError(f"the saved state isn't JSON: {type(error).__name__}: {str(error)[:200]}") from None
    if not isinstance(document, dict) or document.get("format") != format:
        raise StateError(f"this isn't a document that mellea saved: {_shorten(document)}")
    # By type: `true` equals 1 in Python.
    if type(document.get("version")) is not int or document["version"] != version:
        raise StateError(
            f"the saved state has version {document.get('version')!r:.80}, and this version of mellea reads {version}; "
            "read it with the version that saved it"
        )
    if unknown := document.keys() ^ {"format", "version", "value"}:
        raise StateError(f"the saved state has a field too many or too few: {sorted(unknown)[0]!r:.80}")
    # An escape in a foreign document may be a lone surrogate.
    return replace_surrogates_in(document["value"]) if "\\u" in whole else document["value"]


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# -- the fields of each kind, from its annotations -----------------------------------------------


@dataclass(frozen=True, slots=True)
class _Form:
    """How the values of one annotation are written and read."""

    dump: Callable[[Any], Any]
    load: Callable[[Any, str], Any]


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    form: _Form
    is_required: bool
    default: Any = None


@functools.cache
def _read_schema(cls: type) -> Mapping[str, _Field]:
    hints = get_type_hints(cls)
    return {
        field.name: _Field(
            field.name,
            _FOR_THE_PROGRAM if field.name == "value" and hints["value"] is Any else _find_form(hints[field.name]),
            field.default is MISSING,
            field.default,
        )
        for field in fields(cls)
    }


def _find_form(hint: Any) -> _Form:
    # A tool's result may be anything, including blocks, so each value is labelled with its kind.
    if hint is Any:
        return _Form(_dump_free, _load_free)
    if hint in _SIMPLE:
        return _make_plain_form(hint)
    if hint is bytes:
        return _Form(lambda data: base64.b64encode(data).decode("ascii"), _load_bytes)
    if hint in _NAMES or hint is events.Event:
        return _Form(_dump_one, functools.partial(_load_kind, (hint,)))
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _Form(lambda value: value, functools.partial(_load_choice, args))
    if origin is tuple:
        return _make_many_form(_find_form(args[0]))
    if origin in (Union, types.UnionType):
        return _make_union_form(args)
    return _Form(json_value, _load_object)  # the arguments of a call, a mapping


def _make_union_form(args: tuple[Any, ...]) -> _Form:
    kinds = tuple(arg for arg in args if arg is not type(None))
    form = _find_form(kinds[0]) if len(kinds) == 1 else _Form(_dump_one, functools.partial(_load_kind, kinds))
    if len(kinds) == len(args):
        return form
    return _Form(
        lambda value: None if value is None else form.dump(value),
        lambda data, path: None if data is None else form.load(data, path),
    )


def _make_many_form(form: _Form) -> _Form:
    def load(data: Any, path: str) -> tuple[Any, ...]:
        if not isinstance(data, list):
            raise StateError(f"{path} is not a list: {_shorten(data)}")
        return tuple(form.load(item, f"{path}[{number}]") for number, item in enumerate(data))

    return _Form(lambda items: [form.dump(item) for item in items], load)


_SIMPLE = {str: "text", int: "a whole number", bool: "true or false"}


def _make_plain_form(kind: type) -> _Form:
    def load(data: Any, path: str) -> Any:
        # By type, since `True` is an `int` to `isinstance`.
        if type(data) is not kind:
            raise StateError(f"{path} is not {_SIMPLE[kind]}: {_shorten(data)}")
        return data

    return _Form(lambda value: value, load)


def _load_bytes(data: Any, path: str) -> bytes:
    try:
        # Without `validate` Python skips what isn't base64, and half a file would come back.
        return base64.b64decode(data, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise StateError(f"{path} is not base64: {_shorten(data)}") from None


def _load_kind(classes: tuple[Any, ...], data: Any, path: str) -> Any:
    value = from_jsonable(data, path)
    if not isinstance(value, classes):
        given = "a list" if isinstance(value, list) else f"a {_name_kind(value)!r}"
        raise StateError(f"{path} takes {' or '.join(map(_name_of, classes))}, not {given}")
    return value


def _load_choice(choices: tuple[Any, ...], data: Any, path: str) -> Any:
    if not isinstance(data, str) or data not in choices:
        raise StateError(f"{path} should be one of {', '.join(map(repr, choices))}, not {_shorten(data)}")
    return data


def _load_object(data: Any, path: str) -> Any:
    if not isinstance(data, dict):
        raise StateError(f"{path} is not an object: {_shorten(data)}")
    return data


# -- free values: the result of a tool, and its progress ------------------------------------------


def _dump_free(value: Any, depth: int = 0) -> dict[str, Any]:
    """Write blocks as blocks, lists containing blocks as lists, and the rest as JSON, each with a label."""
    if depth > _DEEPEST:
        raise UsageError("a tool's result is nested too deeply to be saved")
    if isinstance(value, Block):
        return {"block": to_jsonable(value)}
    # Only lists that may hold blocks; a thousand numbers would otherwise get a thousand labels.
    if isinstance(value, (list, tuple)) and any(isinstance(item, (Block, list, tuple)) for item in value):
        return {"list": [_dump_free(item, depth + 1) for item in value]}
    return {"json": json_value(value)}


def _load_free(data: Any, path: str) -> Any:
    match data:
        # Exactly one key: with more, the result would depend on the order of these lines.
        case {"json": value, **rest} if not rest:
            return value
        case {"block": block, **rest} if not rest:
            return _load_kind(get_args(Block), block, f"{path}.block")
        case {"list": [*items], **rest} if not rest:
            return [_load_free(item, f"{path}.list[{number}]") for number, item in enumerate(items)]
    raise StateError(f"{path} is not an object with 'json', 'block' or 'list': {_shorten(data)}")


def _dump_for_the_program(value: Any) -> dict[str, Any]:
    """Write what the model never reads; what has no JSON form, such as a data frame, is left out."""
    try:
        return _dump_free(value)
    except UsageError:
        return {"json": None}


_FOR_THE_PROGRAM = _Form(_dump_for_the_program, _load_free)


def json_value(value: Any, *, serialize_unknown: bool = False) -> Any:
    """Return a value as JSON values: dataclasses and pydantic models as dicts, bytes as base64, NaN as a text.

    Args:
        value: any value.
        serialize_unknown: write an object that has no JSON form as its `str()`.

    Raises:
        UsageError: the value has no JSON form.
    """
    if value is None or type(value) is bool or (type(value) is int and -_LARGEST_INT <= value <= _LARGEST_INT):
        return value
    if type(value) is str:
        return replace_surrogates(value)
    from pydantic_core import to_json as dump  # lazy: most programs save nothing and have no tools

    write = functools.partial(dump, inf_nan_mode="strings", bytes_mode="base64", serialize_unknown=serialize_unknown)
    try:
        try:
            text = write(value)
        except ValueError:  # pydantic's own error is one; it also rejects lone surrogates
            text = write(replace_surrogates_in(value))
        read = json.loads(text)
        if text.count(b"[") + text.count(b"{") > _DEEPEST_VALUE:
            _check_depth(read, _DEEPEST_VALUE)
        return read
    except (ValueError, RecursionError) as error:
        raise UsageError(f"a {type(value).__name__} has no JSON form: {str(error)[:200]}") from None


def _list_classes() -> list[str]:
    return ["ChatContext", "Message", "thunks", "blocks", "events", "Usage", "Generation", "ToolSpec", "OutputSchema"]


def _advise(value: Any) -> str:
    """Return what to save in place of what holds a conversation."""
    if hasattr(value, "ctx"):  # a session
        return "; the conversation of a session m is m.ctx"
    if hasattr(value, "view_for_generation"):
        return "; of the contexts only a ChatContext remembers a conversation"
    # A turn, or a component in a list of what a context has.
    is_of_a_context = hasattr(value, "is_sound") or hasattr(value, "format_for_llm")
    return "; save the whole context, m.ctx" if is_of_a_context else ""


def _name_kind(value: Any) -> str:
    return _NAMES.get(type(value)) or str(vars(type(value)).get("saved_kind", type(value).__name__))


def _name_of(cls: type) -> str:
    return repr(_NAMES.get(cls, cls.__name__))


def _shorten(data: Any) -> str:
    shown = json.dumps(data, ensure_ascii=False, default=repr)
    return shown if len(shown) <= 80 else shown[:79] + "…"
