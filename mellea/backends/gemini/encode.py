"""Encodes a `Request` for generateContent."""

from __future__ import annotations

from mellea.backends.gemini.contents import encode_contents
from mellea.backends.gemini.schema import write_schema
from mellea.backends.gemini.wire import EFFORTS, OPTIONS, PROVIDER, JsonObject, find_generation
from mellea.backends.http.fields import make_jsonable
from mellea.core.backend import BuiltinTool, Request, ToolSpec
from mellea.core.options import ModelOption
from mellea.errors import UnsupportedError

__all__ = ["encode"]

_MODES = {"auto": "AUTO", "required": "ANY", "none": "NONE"}

_LARGEST_SEED = 2**31
"""The seed is an integer of 32 bits with a sign."""


def encode(request: Request, model: str) -> JsonObject:
    """Return the payload of a request.

    Raises:
        UnsupportedError: the model can't do what is asked.
    """
    _check_tools(request, model)
    payload: JsonObject = {"contents": encode_contents(request, model)}
    if instructions := [message.text for message in request.messages if message.role == "system" and message.text]:
        payload["systemInstruction"] = {"parts": [{"text": text} for text in instructions]}
    if config := _encode_config(request, model):
        payload["generationConfig"] = config
    if tools := _encode_tools(request):
        payload["tools"] = tools
    if config := _encode_tool_config(request):
        payload["toolConfig"] = config
    return payload


def _check_tools(request: Request, model: str) -> None:
    """Reject combinations that models before generation 3 don't support."""
    own = any(isinstance(tool, ToolSpec) for tool in request.tools)
    number = find_generation(model)
    if not request.tools or number is None or number >= 3:
        return
    if request.output_schema is not None:
        asked, without = "follow a schema while it has tools", "format= or tools="
    elif own and len(request.tools) > sum(isinstance(tool, ToolSpec) for tool in request.tools):
        asked, without = "have your tools and Google's at the same time", "one kind of tools"
    else:
        return
    raise UnsupportedError(
        f"the model {model!r} can't {asked}; leave out {without}, or use a model of generation 3 or later",
        backend=PROVIDER,
        model=model,
    )


def _encode_config(request: Request, model: str) -> JsonObject:
    options = request.options
    config: JsonObject = {name: options[option] for option, name in OPTIONS.items() if option in options}
    if "seed" in config:
        config["seed"] %= _LARGEST_SEED
    if "stopSequences" in config:
        stop = config["stopSequences"]
        config["stopSequences"] = [stop] if isinstance(stop, str) else list(stop)
    if (thinking := options.get(ModelOption.THINKING)) is not None:
        config["thinkingConfig"] = _encode_thinking(thinking, model)
    if request.output_schema is not None:
        config["responseMimeType"] = "application/json"
        config["responseJsonSchema"] = write_schema(make_jsonable(request.output_schema.schema))
    return config


def _encode_thinking(value: bool | int | str, model: str) -> JsonObject:
    """Set the thinking effort: a level from generation 3 on, a token budget before."""
    # A name without a generation counts as a new model.
    takes_levels = (find_generation(model) or 3) >= 3
    if value is True:
        return {"includeThoughts": True}
    if value is False or value == "none":
        if not takes_levels:
            return {"thinkingBudget": 0}
        return {"thinkingLevel": "minimal" if "flash" in model else "low"}  # the lowest level
    if isinstance(value, int):
        return {"thinkingBudget": value, "includeThoughts": value > 0}
    if value not in EFFORTS:
        raise UnsupportedError(
            f"the model {model!r} doesn't know the effort {value!r}; thinking takes True, False, a number of tokens, "
            f"or one of {', '.join(EFFORTS)}",
            backend=PROVIDER,
            model=model,
        )
    effort: JsonObject = {"thinkingLevel": value} if takes_levels else {"thinkingBudget": EFFORTS[value]}
    return {**effort, "includeThoughts": True}


def _encode_tools(request: Request) -> list[JsonObject]:
    own = [_declare_tool(tool) for tool in request.tools if isinstance(tool, ToolSpec)]
    tools: list[JsonObject] = [{"functionDeclarations": own}] if own else []
    return tools + [make_jsonable(tool.config) for tool in request.tools if isinstance(tool, BuiltinTool)]


def _declare_tool(tool: ToolSpec) -> JsonObject:
    return {
        "name": tool.name,
        "description": tool.description,
        "parametersJsonSchema": write_schema({"type": "object", **make_jsonable(tool.parameters)}),
    }


def _encode_tool_config(request: Request) -> JsonObject:
    own = [tool.name for tool in request.tools if isinstance(tool, ToolSpec)]
    config: JsonObject = {}
    choice = request.options.get(ModelOption.TOOL_CHOICE)
    if own and choice is not None:
        # There is no mode for a single function, so it is a choice among one.
        named = {"mode": "ANY", "allowedFunctionNames": [choice]}
        config["functionCallingConfig"] = {"mode": _MODES[choice]} if choice in _MODES else named
    if own and len(own) < len(request.tools):
        config["includeServerSideToolInvocations"] = True  # Gemini requires it where both kinds are used
    return config
