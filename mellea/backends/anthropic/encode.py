"""Encodes a `Request` for Anthropic's Messages API."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mellea.backends.anthropic.models import Traits, find_traits
from mellea.backends.anthropic.schema import close_schema, make_object_schema
from mellea.backends.anthropic.turns import encode_messages, find_container
from mellea.backends.anthropic.wire import BETAS, FILES_URL, MCP_PREFIX, Json, JsonObject
from mellea.core.backend import BuiltinTool, OutputSchema, Request, ToolSpec
from mellea.core.blocks import CBlock, FileBlock, ToolCall, ToolOutput
from mellea.core.messages import Message
from mellea.core.options import ModelOption
from mellea.core.structured.envelope import needs_wrapping, wrap_schema
from mellea.errors import UnsupportedError, UsageError

__all__ = ["OPTIONS", "SAMPLING", "answer_tool", "encode", "ends_in_space", "find_betas"]

SAMPLING = {
    ModelOption.TEMPERATURE: "temperature",
    ModelOption.TOP_P: "top_p",
    ModelOption.TOP_K: "top_k",
}
"""The options that models from Claude 4.7 on reject, and the provider's names for them."""

OPTIONS = frozenset(
    {
        *SAMPLING,
        ModelOption.MAX_NEW_TOKENS,
        ModelOption.STOP_SEQUENCES,
        ModelOption.THINKING,
        ModelOption.TOOL_CHOICE,
    }
)
"""The options that reach the model."""

_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_BUDGETS = {"low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 32_000}
_LEAST_BUDGET = 1024

_MAX_TOKENS_AT_ONCE = 16_000
"""A longer unstreamed response could run into time-outs of proxies."""

_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def encode(request: Request, model: str) -> JsonObject:
    """Return the payload.

    Raises:
        UnsupportedError: the model or the format can't do what is asked.
        UsageError: an option has a value that no model accepts.
    """
    can = find_traits(model)
    options = request.options
    is_stream = bool(options.get(ModelOption.STREAM, True))
    # The API demands `max_tokens`, so it is set even where the user gave no limit.
    payload: JsonObject = {"model": model, "max_tokens": _find_max_tokens(options, can, is_stream), "stream": is_stream}
    payload |= encode_messages(request.messages)
    # Checked before anything is sent, since the API's own error mentions roles, not prefixes.
    _refuse_prefix(request, payload["messages"], can)
    payload |= {name: options[option] for option, name in SAMPLING.items() if option in options}
    if ModelOption.STOP_SEQUENCES in options:
        stop = options[ModelOption.STOP_SEQUENCES]
        payload["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    if ModelOption.THINKING in options:
        # After `max_tokens`, which includes the thinking budget.
        _encode_thinking(options[ModelOption.THINKING], payload, can, model)
    if (container := find_container(request.messages)) is not None:
        payload["container"] = container
    if request.tools:
        payload |= _encode_tools(request.tools, options.get(ModelOption.TOOL_CHOICE))
    else:
        payload |= _encode_tools(_recall_tools(request.messages), "none")
    if request.output_schema is not None:
        _hold(request, request.output_schema, payload, can)
    return payload


def answer_tool(request: Request, model: str) -> str | None:
    """Return the name of the tool whose arguments are the answer, where a forced call enforces the schema."""
    if request.output_schema is None or find_traits(model).native_schema:
        return None
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", request.output_schema.name)[:60] or "answer"
    taken = {tool.name for tool in request.tools}
    # The answer's tool is sent along with the user's, and only its name tells its calls apart.
    while name in taken:
        name += "_"
    return name


def find_betas(request: Request) -> list[str]:
    """Return the beta features that the request's tools, and its history, need."""
    types = {str(tool.config.get("type")) for tool in request.tools if isinstance(tool, BuiltinTool)}
    blocks = [block for message in request.messages for block in message.blocks]
    if any(isinstance(block, ToolCall) and block.tool_call_id.startswith(MCP_PREFIX) for block in blocks):
        # A history with such calls needs the beta header even if this request declares no server.
        types.add("mcp_toolset")
    found = {beta for kind, beta in BETAS.items() if kind in types}
    if any(isinstance(block, FileBlock) and (block.url or "").startswith(FILES_URL) for block in blocks):
        found.add("files-api-2025-04-14")
    return sorted(found)


def ends_in_space(messages: Sequence[Message]) -> bool:
    """Return whether the answer continues a prefix that ends in white space, which the API refuses."""
    if not messages or messages[-1].role != "assistant" or not messages[-1].blocks:
        return False
    last = messages[-1].blocks[-1]
    return isinstance(last, CBlock) and last.value != last.value.rstrip()


def _find_max_tokens(options: Mapping[str, Json], can: Traits, is_stream: bool) -> int:
    if ModelOption.MAX_NEW_TOKENS in options:
        return int(options[ModelOption.MAX_NEW_TOKENS])
    return can.max_tokens if is_stream else min(can.max_tokens, _MAX_TOKENS_AT_ONCE)


def _refuse_prefix(request: Request, turns: list[JsonObject], can: Traits) -> None:
    if not turns or turns[-1]["role"] != "assistant":
        return
    if request.output_schema is not None:
        raise UnsupportedError(
            "Anthropic can't continue an assistant message under a schema; leave out format= or output_prefix="
        )
    # A turn in which the provider's own tools ran may have been paused; sending it back continues it.
    blocks = request.messages[-1].blocks
    is_paused = any(isinstance(block, (ToolCall, ToolOutput)) and block.is_builtin for block in blocks)
    if not can.prefill and not is_paused:
        raise UnsupportedError(
            "Claude models from 4.6 on can't continue an assistant message; end with a user's message, or use the "
            "embedded model, llama_cpp"
        )


def _encode_thinking(thinking: bool | int | str, payload: JsonObject, can: Traits, model: str) -> None:
    if thinking is False or thinking == "none":
        _turn_thinking_off(payload, can, model)
    elif isinstance(thinking, str):
        effort = _EFFORTS.get(thinking)
        if effort is None:
            raise UsageError(f"thinking takes True, False, a number of tokens, or one of {', '.join(_EFFORTS)}")
        if can.thinking == "budget":
            _encode_thinking_budget(_BUDGETS[effort], payload)
        else:
            _encode_adaptive_thinking(payload, can)
            payload["output_config"] = {"effort": effort}
    elif thinking is True:
        if can.thinking == "budget":
            _encode_thinking_budget(_BUDGETS["medium"], payload)
        else:
            _encode_adaptive_thinking(payload, can)
    elif can.thinking == "adaptive":
        raise UnsupportedError(f"the model {model!r} takes no token budget for thinking; give an effort, such as 'low'")
    else:
        _encode_thinking_budget(thinking, payload)


def _turn_thinking_off(payload: JsonObject, can: Traits, model: str) -> None:
    if can.off is None:
        raise UnsupportedError(f"the model {model!r} always thinks; leave out thinking, or use 'low'")
    if can.off:
        payload["thinking"] = {"type": can.off}


def _encode_adaptive_thinking(payload: JsonObject, can: Traits) -> None:
    payload["thinking"] = {"type": "adaptive"} | ({"display": "summarized"} if can.hides_thinking else {})


def _encode_thinking_budget(budget: int, payload: JsonObject) -> None:
    """Set a token budget; it counts towards `max_tokens`, and has to be smaller."""
    room = payload["max_tokens"] - 1
    if room < _LEAST_BUDGET:
        # A limit too low for any thinking was meant for the answer, so thinking gets its own tokens on top.
        payload["max_tokens"] += max(budget, _LEAST_BUDGET)
        room = payload["max_tokens"] - 1
    payload["thinking"] = {"type": "enabled", "budget_tokens": max(_LEAST_BUDGET, min(budget, room))}


def _encode_tools(tools: Sequence[ToolSpec | BuiltinTool], choice: str | None) -> JsonObject:
    if not tools:
        return {}
    declared = [_encode_tool(tool) for tool in tools]
    # The format lists the toolset among the tools and its server elsewhere, linked by name.
    servers = [tool.pop("mcp_server") for tool in declared if "mcp_server" in tool]
    payload: JsonObject = {"tools": declared}
    if servers:
        payload["mcp_servers"] = servers
    if choice is not None:
        kind = _CHOICES.get(choice)
        payload["tool_choice"] = {"type": kind} if kind else {"type": "tool", "name": choice}
    return payload


def _recall_tools(messages: Sequence[Message]) -> list[ToolSpec]:
    """Return the tools that are called in the history, for a request that offers none.

    Without them the API rejects a history with calls or results: "Requests which include `tool_use` or `tool_result`
    blocks must define tools" (400, 2026-11).
    """
    blocks = [block for message in messages for block in message.blocks]
    called = [block for block in blocks if isinstance(block, (ToolCall, ToolOutput)) and not block.is_builtin]
    return [ToolSpec(name, "", {}) for name in dict.fromkeys([block.tool_name for block in called])]


def _encode_tool(tool: ToolSpec | BuiltinTool) -> JsonObject:
    if isinstance(tool, BuiltinTool):
        return dict(tool.config)
    return {"name": tool.name, "description": tool.description, "input_schema": {"type": "object", **tool.parameters}}


def _hold(request: Request, output: OutputSchema, payload: JsonObject, can: Traits) -> None:
    if can.native_schema:
        schema = wrap_schema(output.schema) if needs_wrapping(output.schema) else output.schema
        form = {"type": "json_schema", "schema": close_schema(schema)}
        payload["output_config"] = {**payload.get("output_config", {}), "format": form}
        return
    if "thinking" in payload:
        raise UnsupportedError(
            f"the model {payload['model']!r} can't think before an answer that has a schema; leave out thinking"
        )
    name = answer_tool(request, payload["model"]) or ""
    tool = {"name": name, "description": "Gives the answer.", "input_schema": make_object_schema(output.schema)}
    payload["tools"] = [*payload.get("tools", ()), tool]
    # With other tools present the model may use them first, so any call will do.
    payload["tool_choice"] = {"type": "any"} if request.tools else {"type": "tool", "name": name}
