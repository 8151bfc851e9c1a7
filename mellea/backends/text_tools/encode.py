"""Encodes a request with tools in the protocol: a request without tools, whose messages say what to write.

The model writes JSON objects: `{"tool": name, "arguments": {…}}`, one for each call, or `{"answer": …}`, whose value is
a text, or with an `output_schema` the JSON itself. Earlier calls and answers of the conversation are written in the
same way, so that they are examples, as the worked calls of the tools are. Tool results are user messages.

If the backend enforces schemas, the model has to write one object of the protocol. There the arguments come first: a
small model then chooses the right tool far more often (`docs/embedded.md` has the figures). Otherwise the name comes
first, so that a call is visible as soon as it begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from mellea.backends.text_tools.decode import ProtocolRules
from mellea.core.backend import OutputSchema, Request, ToolExample, ToolSpec, narrow_tools
from mellea.core.blocks import Block, CBlock, ToolCall, ToolOutput
from mellea.core.messages import Message
from mellea.core.options import ModelOption
from mellea.core.structured.bundle import bundle_schema
from mellea.core.structured.prompting import add_to_system
from mellea.core.structured.schema import follow_references

__all__ = ["correct", "encode", "needs_protocol", "without_choice"]

_MAX_SHOWN = 2000
"""Characters of a rejected text that the model is shown again."""

_PENALTIES = frozenset(
    map(str, (ModelOption.FREQUENCY_PENALTY, ModelOption.PRESENCE_PENALTY, ModelOption.REPEAT_PENALTY))
)
"""They penalise what the protocol has to repeat: its marks, the words of the question, a tool's result."""

_VALUES: Mapping[str, Any] = {"integer": 7, "number": 7, "boolean": True, "array": [], "object": {}, "null": None}
"""Values in made-up calls; all other types get a text."""

_RESULT = "17"

_FEW = frozenset({"type", "properties", "required", "additionalProperties", "title", "description"})
"""Keywords of parameters that names and schemas of the arguments fully express."""


def needs_protocol(request: Request) -> bool:
    """Return whether a request has tools of the program, or their calls and results in its history."""
    if any(isinstance(tool, ToolSpec) for tool in request.tools):
        return True
    return any(_is_call(block) for message in request.messages for block in message.blocks)


def without_choice(request: Request) -> Request:
    """Return the request without a `tool_choice`, which the backend doesn't support."""
    if ModelOption.TOOL_CHOICE not in request.options:
        return request
    options = {name: value for name, value in request.options.items() if name != ModelOption.TOOL_CHOICE}
    return replace(request, options=options)


def encode(
    request: Request, *, is_held: bool = False, defaults: Mapping[str, Any] | None = None
) -> tuple[Request, ProtocolRules | None]:
    """Return the request in the protocol, and its rules; `None` if it needs no protocol.

    Args:
        request: a request with tools.
        is_held: whether an `output_schema` enforces the protocol.
        defaults: options of the backend; repetition penalties that equal these are left out.
    """
    request = narrow_tools(request)
    choice = request.options.get(ModelOption.TOOL_CHOICE, "auto")
    options = dict(without_choice(request).options)
    specs = [tool for tool in request.tools if isinstance(tool, ToolSpec)]
    builtin = tuple([tool for tool in request.tools if not isinstance(tool, ToolSpec)])
    if not specs or choice == "none":
        messages = tuple(_write_messages(request.messages, is_held, speaks=False))
        return replace(request, messages=messages, tools=builtin, options=options), None
    for name in _PENALTIES & options.keys():
        if defaults is not None and options[name] == defaults.get(name):
            del options[name]
    if choice not in ("auto", "required"):
        specs = [spec for spec in specs if spec.name == choice]
    schema = request.output_schema
    rules = ProtocolRules(
        names=frozenset(spec.name for spec in specs) if choice != "auto" else None,
        must_call=choice != "auto",
        has_format=schema is not None,
        begun=_get_begun(request.messages, schema is not None),
    )
    messages = tuple(_write_messages(request.messages, is_held, has_format=schema is not None))
    explained = add_to_system(messages, _explain(specs, rules, None if schema is None else schema.schema, is_held))
    begin = sum(message.role == "system" for message in explained[:1])
    if is_held:
        result = _RESULT if request.messages and request.messages[-1].role == "tool" else ""
        specs = [spec if spec.examples else replace(spec, examples=(_make_example(spec, result),)) for spec in specs]
    shown = tuple(_write_examples(specs, is_held, answers=schema is None and not rules.must_call))
    explained = (*explained[:begin], *shown, *explained[begin:])
    held = OutputSchema("reply", _make_schema(specs, rules, schema)) if is_held else None
    return replace(request, messages=explained, tools=builtin, output_schema=held, options=options), rules


def correct(request: Request, said: str, problem: str) -> Request:
    """Return an encoded request with the model's rejected text and the problem.

    Args:
        request: the result of `encode`.
        said: the text that breaks the protocol.
        problem: why it does.
    """
    messages = request.messages
    if messages and messages[-1].role == "assistant":
        messages = messages[:-1]  # the beginning of an answer, which the model's text includes
    again = f"{problem} Write one JSON object as the system message says, and nothing else."
    shown = said if len(said) <= _MAX_SHOWN else f"{said[:_MAX_SHOWN]}…"
    spoken = [Message("assistant", shown)] if shown.strip() else []
    begun = [request.messages[-1]] if messages is not request.messages else []
    return replace(request, messages=(*messages, *spoken, Message("user", again), *begun))


def _is_call(block: Block) -> bool:
    return isinstance(block, (ToolCall, ToolOutput)) and not block.is_builtin


def _get_begun(messages: tuple[Message, ...], has_format: bool) -> str:
    """Return the beginning of the answer, if the last message is one."""
    if not messages or messages[-1].role != "assistant" or not messages[-1].text:
        return ""
    text = messages[-1].text
    return f'{{"answer": {text if has_format else _to_json(text)[:-1]}'


def _write_messages(
    messages: tuple[Message, ...], is_held: bool, *, has_format: bool = False, speaks: bool = True
) -> Iterator[Message]:
    """Yield the messages with calls and results as text, in the protocol's form if the model `speaks` it."""
    for number, message in enumerate(messages):
        is_begun = number == len(messages) - 1 and message.role == "assistant"
        if message.role == "tool" and any(map(_is_call, message.blocks)):
            yield Message("user", [part for block in message.blocks for part in _write_result(block)])
        elif message.role == "assistant" and is_begun:
            begun = _get_begun(messages, has_format) if speaks else ""
            yield Message("assistant", begun) if begun else message
        elif message.role == "assistant" and any(map(_is_call, message.blocks)):
            yield Message("assistant", list(_write_calls(message.blocks, is_held)))
        elif message.role == "assistant" and speaks:
            yield _write_answer(message, has_format)
        else:
            yield message


def _write_calls(blocks: Iterable[Block], is_held: bool) -> Iterator[Block]:
    lead = ""
    for block in blocks:
        if isinstance(block, ToolCall) and not block.is_builtin:
            yield CBlock(lead + _write_call(block.tool_name, block.tool_args, is_held))
        else:
            yield block
        lead = "\n"


def _write_call(name: str, arguments: Mapping[str, Any], is_held: bool) -> str:
    call = {"tool": name, "arguments": dict(arguments)}
    return _to_json(dict(sorted(call.items()))) if is_held else _to_json(call)


def _write_result(block: Block) -> Iterator[Block]:
    if not isinstance(block, ToolOutput):
        yield block
        return
    text = "".join([part.value for part in block.parts if isinstance(part, CBlock)])
    yield CBlock(_write_output(block.tool_name, text, is_error=block.is_error))
    yield from block.files


def _write_output(name: str, text: str, *, is_error: bool = False) -> str:
    return _to_json({"tool": name, "error" if is_error else "result": text}) + "\n"


def _write_answer(message: Message, has_format: bool) -> Message:
    others = [block for block in message.blocks if not isinstance(block, CBlock)]
    if not message.text:
        return message
    value: Any = message.text
    if has_format:
        try:
            value = json.loads(message.text)
        except ValueError:  # an answer from before the format was set
            value = message.text
    return Message("assistant", [*others, CBlock(_to_json({"answer": value}))])


def _write_examples(specs: list[ToolSpec], is_held: bool, *, answers: bool) -> Iterator[Message]:
    """Yield the worked calls of the tools as if they had been made, with the model's answers if it `answers`."""
    for spec in specs:
        for example in spec.examples:
            yield Message("user", example.prompt)
            yield Message("assistant", _write_call(spec.name, example.arguments, is_held))
            if answers and example.result:
                yield Message("user", _write_output(spec.name, example.result))
                yield Message("assistant", _to_json({"answer": example.answer or example.result}))


def _make_example(spec: ToolSpec, result: str) -> ToolExample:
    """Make up a worked call, since without one a small model never calls the tool.

    Before the first call, an answer in the example makes it answer instead of calling; after that, an example
    without an answer makes it call forever.
    """
    properties = spec.parameters.get("properties", {})
    required = spec.parameters.get("required", ())
    arguments = {name: _make_value(properties.get(name), spec.parameters) for name in required}
    said = spec.description.partition("\n")[0].rstrip(" .") or spec.name
    values = ", ".join([value if isinstance(value, str) else _to_json(value) for value in arguments.values()])
    return ToolExample(f"{said}: {values}" if values else f"{said}.", arguments, result)


def _make_value(schema: Any, root: Mapping[str, Any]) -> Any:
    schema = follow_references(schema, root) if isinstance(schema, Mapping) else {}
    for stated in ("examples", "enum"):
        if isinstance(schema.get(stated), list) and schema[stated]:
            return schema[stated][0]
    if "const" in schema or "default" in schema:
        return schema.get("const", schema.get("default"))
    return _VALUES.get(str(schema.get("type")), "abc")


def _explain(specs: list[ToolSpec], rules: ProtocolRules, schema: Mapping[str, Any] | None, is_held: bool) -> str:
    tools = "\n".join(
        _to_json({"tool": spec.name, "description": spec.description, "arguments": _describe(spec.parameters)})
        for spec in specs
    )
    names = '{"arguments": {…}, "tool": "…"}' if is_held else '{"tool": "…", "arguments": {…}}'
    lines = [
        f"You can use these tools:\n{tools}",
        f"To use a tool, write {names}. Its result comes in the next message.",
    ]
    if rules.must_call:
        lines.append("Use a tool now.")
    elif schema is None:
        lines.append('When you know the answer, write {"answer": "…"}.')
    else:
        lines.append(
            'When you know the answer, write {"answer": …}, where the value matches this JSON Schema:\n'
            + _to_json(schema)
        )
    lines.append("Write JSON only, no other text.")
    return "\n".join(lines)


def _describe(parameters: Mapping[str, Any]) -> Any:
    """Describe a tool's parameters: their schemas by name, if that says everything."""
    properties = parameters.get("properties", {})
    is_plain = parameters.keys() <= _FEW and set(parameters.get("required", ())) == properties.keys()
    return properties if is_plain else parameters


def _make_schema(specs: list[ToolSpec], rules: ProtocolRules, schema: OutputSchema | None) -> dict[str, Any]:
    """Return the schema of one object of the protocol."""
    # Its own id makes each part a schema with its own references, until all are bundled.
    branches = [
        _make_object(arguments={**spec.parameters, "$id": f"arguments-{number}"}, tool={"const": spec.name})
        for number, spec in enumerate(specs)
    ]
    if not rules.must_call:
        wanted = {"type": "string"} if schema is None else {**schema.schema, "$id": "answer"}
        branches.append(_make_object(answer=wanted))
    return bundle_schema({"anyOf": branches})


def _make_object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
