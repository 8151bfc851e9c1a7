"""Encodes the model option `thinking` for each service."""

from __future__ import annotations

import re
from typing import Any

from mellea.backends.openai.content import make_unsupported_error
from mellea.backends.openai.services import Service

__all__ = ["encode_thinking", "find_effort", "is_reasoning_model"]

_REASONS = re.compile(r"^(o\d|gpt-([5-9]|\d\d)|codex|gpt-oss)")
_CANT_STOP = re.compile(r"^(o\d|codex)")
_AT_LEAST_MINIMAL = re.compile(r"^gpt-5(-|$)")

_EFFORTS = {1024: "low", 8192: "medium"}
"""The most thinking tokens for each effort, for services that don't accept a number."""


def is_reasoning_model(model_id: str) -> bool:
    """Return whether an OpenAI model thinks before it answers."""
    name = model_id.rpartition("/")[2]
    return bool(_REASONS.match(name)) and "-chat" not in name


def encode_thinking(service: Service, model_id: str, thinking: bool | str | int) -> dict[str, Any]:
    """Return the fields for a chat completion's payload.

    Raises:
        UnsupportedError: the model can't turn off thinking.
    """
    is_on = thinking not in (False, 0, "none")
    match service.thinking:
        case "effort":
            return {"reasoning_effort": find_effort(model_id, thinking)}
        case "reasoning":
            return {"reasoning": _encode_reasoning(thinking, is_on=is_on)}
        case "switch":
            return {"thinking": {"type": "enabled" if is_on else "disabled"}}
        case "switch+effort":
            effort = {} if not is_on or thinking is True else {"reasoning_effort": find_effort(model_id, thinking)}
            return {"thinking": {"type": "enabled" if is_on else "disabled"}, **effort}
        case "enable":
            return {"enable_thinking": is_on, **({"thinking_budget": thinking} if _is_number(thinking) else {})}
        case "template":
            return {"chat_template_kwargs": {"enable_thinking": is_on}}
    return {}


def find_effort(model_id: str, thinking: bool | str | int) -> str:
    """Return OpenAI's name for how much to think; a number of tokens becomes the nearest one.

    Raises:
        UnsupportedError: the model can't turn off thinking.
    """
    if isinstance(thinking, str):
        return thinking
    if not thinking:
        name = model_id.rpartition("/")[2]
        if _CANT_STOP.match(name):
            raise make_unsupported_error(f"the model {model_id!r} can't turn off thinking", "use thinking='low'")
        # The least that the model accepts, the closest to not thinking.
        return "minimal" if _AT_LEAST_MINIMAL.match(name) else "none"
    if thinking is True:
        return "medium"
    return next((effort for limit, effort in _EFFORTS.items() if thinking <= limit), "high")


def _encode_reasoning(thinking: bool | str | int, *, is_on: bool) -> dict[str, Any]:
    if isinstance(thinking, str) and is_on:
        return {"effort": thinking}
    return {"max_tokens": thinking} if _is_number(thinking) and is_on else {"enabled": is_on}


def _is_number(thinking: bool | str | int) -> bool:
    return isinstance(thinking, int) and not isinstance(thinking, bool)
