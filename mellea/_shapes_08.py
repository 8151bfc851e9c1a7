"""The few names of Mellea 0.8 that need code of their own; `_mellea_08.py` has the table of the others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args

from mellea.backends.registry import get_backend
from mellea.core.backend import Backend
from mellea.core.context import Context
from mellea.core.messages import Message
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib import functional
from mellea.stdlib.context import ChatContext, SimpleContext
from mellea.stdlib.sampling.two_solvers import SOFAIStrategy
from mellea.stdlib.verb import ActArguments

__all__ = ["MelleaLogger", "SOFAISamplingStrategy", "as_chat_history", "generate_from_context", "start_backend"]

C = TypeVar("C", bound=Context)
Mode = Literal["fresh_start", "continue_chat", "best_attempt"]


class MelleaLogger:
    """Where the library's logger is."""

    @staticmethod
    def get_logger() -> logging.Logger:
        """Return `logging.getLogger("mellea")`."""
        return logging.getLogger("mellea")


class SOFAISamplingStrategy(SOFAIStrategy):
    """`SOFAIStrategy`, with both models as arguments.

    Args:
        s1_solver_backend: the fast model.
        s2_solver_backend: the slow one.
        s2_solver_mode: `"fresh_start"` gives the slow model the task alone, the others also the best answer of the fast
            one and what is wrong with it.
        loop_budget: the most attempts of the fast model.
        judge_backend: the model that judges requirements without a function; by default the one that wrote the answer.
        feedback_strategy: accepted, but without effect: a correction always names everything that isn't met.

    Raises:
        UsageError: an argument is of a wrong type; or there is a `judge_backend`, which belongs to the requirement.
    """

    def __init__(
        self,
        s1_solver_backend: Backend,
        s2_solver_backend: Backend,
        s2_solver_mode: Mode = "fresh_start",
        *,
        loop_budget: int = 3,
        judge_backend: Backend | None = None,
        feedback_strategy: Literal["simple", "first_error", "all_errors"] = "all_errors",
    ) -> None:
        if s2_solver_mode not in get_args(Mode):
            raise UsageError(f"s2_solver_mode takes one of {', '.join(get_args(Mode))}, not {s2_solver_mode!r}")
        if judge_backend is not None:
            raise UsageError("a requirement has its own judge: req('…', judge=backend) in place of judge_backend=")
        handover: Literal["fresh", "repair"] = "fresh" if s2_solver_mode == "fresh_start" else "repair"
        super().__init__(s2_solver_backend, fast=s1_solver_backend, loop_budget=loop_budget, handover=handover)


def as_chat_history(ctx: Context) -> list[Message]:
    """Return what was said in a context, as messages, oldest first.

    Raises:
        UsageError: a value in it is neither a message, nor a text, nor an answer.
    """
    history: list[Message] = []
    for turn in ctx.turns():
        if isinstance(turn.input, (str, Message)):
            history.append(turn.input if isinstance(turn.input, Message) else Message("user", turn.input))
        elif turn.input is not None:
            raise UsageError(f"as_chat_history takes a context of messages, and this one has {turn.input!r}")
        if turn.output is not None:
            history.append(Message("assistant", str(turn.output)))
    return history


async def generate_from_context(
    backend: Backend,
    action: Any,
    ctx: C,
    *,
    format: Any,
    model_options: Mapping[str, Any] | None,
    tool_calls: bool,
) -> tuple[ModelOutputThunk[Any], C]:
    """Launch a generation in a context; return its thunk, which may still be written, and the context with the turn.

    Args:
        backend: which model to ask.
        action: what to say to it.
        ctx: what it knows of earlier turns.
        format: the type of the answer.
        model_options: options for the model.
        tool_calls: whether it may call the tools of `model_options`.

    Raises:
        MelleaError: an argument is wrong.
    """
    arguments = ActArguments(strategy=None, tool_calls=tool_calls)
    if model_options is not None:
        arguments["model_options"] = dict(model_options)
    return await functional.aact(action, ctx, backend, format=format, await_result=False, **arguments)


def start_backend(
    backend_name: str = "ollama",
    model_id: Any = "granite4.2:3b",
    ctx: Context | None = None,
    *,
    context_type: Literal["simple", "chat"] | None = None,
    model_options: dict[str, Any] | None = None,
    **backend_kwargs: Any,
) -> tuple[Context, Backend]:
    """Make a context and a backend, for the functions of `mellea.mfuncs`.

    Args:
        backend_name: name of the provider.
        model_id: the model.
        ctx: the context, in place of `context_type`.
        context_type: `"chat"` remembers earlier turns, `"simple"`, the default, none.
        model_options: options for every call.
        backend_kwargs: arguments for the backend's class, such as `base_url`.

    Raises:
        UsageError: an argument is wrong.
        ConfigurationError: the provider or the model is unknown.
    """
    if context_type not in (None, "simple", "chat"):
        raise UsageError(f"context_type takes 'simple' or 'chat', not {context_type!r}")
    if ctx is not None and context_type is not None:
        raise UsageError("ctx= and context_type= are two names for one thing; give one")
    made = ctx if ctx is not None else ChatContext() if context_type == "chat" else SimpleContext()
    return made, get_backend(backend_name, model_id, model_options=model_options, **backend_kwargs)
