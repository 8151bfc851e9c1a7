"""How much a run of an agent may take, and how much it has taken so far."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from mellea.core import prices
from mellea.core.backend import Backend
from mellea.core.entrance import entrance
from mellea.core.events import Usage
from mellea.core.messages import Message
from mellea.core.numbers import is_number
from mellea.core.serialise import from_jsonable, to_jsonable
from mellea.errors import ConfigurationError, UsageError
from mellea.stdlib.agents.keeper import StateKeeper
from mellea.stdlib.agents.memory import Memory
from mellea.stdlib.agents.pending import Pending
from mellea.stdlib.tools import LoopProgress, LoopState, nest_progress

if TYPE_CHECKING:
    from mellea.core.runtime import Record

__all__ = ["Book", "Limits", "current_book"]


@entrance(
    "Limits",
    max_turns="steps=… limits how many times the model is asked",
    max_tokens="tokens=… limits input and output tokens together",
    request_limit="steps=… limits how many times the model is asked",
    total_tokens_limit="tokens=… limits input and output tokens together",
    tool_calls_limit="tool_calls=… limits how many tool calls are run",
    dollars="cost=… is in US dollars",
    timeout="seconds=… limits how long the run takes",
)
@dataclass(frozen=True, slots=True)
class Limits:
    """How much a run may use; anything not given is unlimited. Usage of sub-agents counts as well, once they are done.

    Limits are checked after each answer that calls tools: if one is reached, the tools aren't run and the run ends, as
    the loop's `on_limit` says. Only `seconds` also interrupts a request or a tool.

    Args:
        steps: how many times the model is asked.
        tokens: input and output tokens together.
        cost: US dollars, by the prices of `mellea.prices`.
        tool_calls: how many tool calls are run.
        seconds: how long the run takes.

    Raises:
        UsageError: a limit is not a number above 0; `tool_calls` may be 0.
    """

    steps: int | None = None
    tokens: int | None = None
    cost: float | None = None
    tool_calls: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            is_whole = field.name in ("steps", "tokens", "tool_calls")
            # Above 0 for values that may be fractions; a limit of 0 tool calls is useful, for an agent that only
            # answers.
            least = 0 if field.name == "tool_calls" else 1e-12
            if not is_number(value, least) or (is_whole and not isinstance(value, int)):
                what = "a whole number" if is_whole else "a number"
                raise UsageError(f"{field.name}= of Limits takes {what} above 0, or None, not {value!r}")

    def check_price(self, backend: Backend) -> None:
        """Reject a cost limit for a model without a price.

        Raises:
            ConfigurationError: the price is unknown.
        """
        if self.cost is not None and prices.find_price(backend.name, backend.model_id) is None:
            model = prices.write_model(backend.name, backend.model_id)
            raise ConfigurationError(
                f"Limits(cost={self.cost!r}) can't be enforced, since the price of {model!r} is unknown; set it with "
                f"mellea.prices.set_prices({{{model!r}: mellea.prices.Price(input=…, output=…)}}), or limit tokens="
            )


class Book:
    """What is known about one run besides its events: its usage, the user's messages in the meantime, and how it ends.

    Attributes:
        usage: the tokens so far, `None` if no provider has reported any.
        cost: US dollars so far, `None` if a part is unknown.
        limit: the name of the limit that the run has reached.
        pending: what a suspended run waits for.
        messages: the whole conversation, once the run has ended.
        on_end: is given that, if the run has ended well.
        keeper: keeps the states of the run.
        start: where the run continues, if it was suspended or stopped before.
        is_nested: whether it is the run of a sub-agent, which continues by itself where it stopped.
        progress: how far it has come, once it has begun.
        added: messages from the user that the agent hasn't received yet.
        memory: the agent's memory in this run.
        max_steps: how many times the loop asks the model at most.
        inner: the books of sub-agents that are at work.
    """

    def __init__(self, limits: Limits, keeper: StateKeeper) -> None:
        self.limits = limits
        self.keeper = keeper
        self.usage: Usage | None = None
        self.cost: float | None = 0.0
        self.limit: str | None = None
        self.pending: Pending | None = None
        self.messages: tuple[Message, ...] = ()
        self.on_end: Callable[[tuple[Message, ...]], object] | None = None
        self.start: LoopState | None = None
        self.is_nested = False
        self.progress: LoopProgress | None = None
        self.added: list[Message] = []
        self.memory: Memory | None = None
        self.max_steps: int | None = None
        self.inner: list[Book] = []
        self._taken_before: dict[str, float] = {}  # when the turns that are left were last estimated
        self._calls = 0
        # `steer` and `close` come from different threads.
        self._lock = threading.Lock()
        self._is_closed = False

    # -- what it takes --------------------------------------------------------------------------------

    def add(self, usage: Usage | None, cost: float | None) -> None:
        """Add what a request, or a sub-agent, took."""
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage + usage
        self.cost = None if self.cost is None or cost is None else self.cost + cost

    def add_request(self, request: Record, backend: Backend) -> None:
        """Add what a request took, which has ended."""
        answer = request.so_far()
        # The model of the request, not that of the agent: `prepare_step` may have changed it.
        provider, model = (backend.name, backend.model_id) if request.sent is None else _name_model(request.sent)
        self.add(answer.usage, prices.compute_cost(answer.usage, provider, answer.model or model, asked=model))

    def find_limit(self, calls: int) -> str | None:
        """Return which limit is reached, if an answer asks for that many tool calls.

        Raises:
            ConfigurationError: there is a limit on what isn't known.
        """
        limits = self.limits
        # Checked before it is counted: the calls of an answer are run all together or not at all.
        if limits.tool_calls is not None and self._calls + calls > limits.tool_calls:
            return "tool_calls"
        self._calls += calls
        for name, limit, taken in (
            ("tokens", limits.tokens, None if self.usage is None else self.usage.total_tokens),
            ("cost", limits.cost, self.cost),
        ):
            if limit is None:
                continue
            # An unknown sum can't be compared with a limit, and continuing would mean ignoring the limit.
            if taken is None:
                raise ConfigurationError(
                    f"Limits({name}={limit!r}) can't be enforced: the provider didn't report the tokens of an answer; "
                    "limit steps= or tool_calls= instead"
                )
            if taken >= limit:
                return name
        return None

    def estimate_turns(self, number: int) -> int | None:
        """Return how many more steps may call tools, that of this number included; `None` if nothing limits them.

        It is asked once a step. Tokens and dollars are taken to be spent as fast as since it was asked before.

        Args:
            number: of the step that is about to be asked.
        """
        limits, left = self.limits, [] if self.max_steps is None else [self.max_steps - number]
        if limits.tool_calls is not None:
            left.append(limits.tool_calls - self._calls)
        tokens = None if self.usage is None else self.usage.total_tokens
        for name, limit, taken in (("tokens", limits.tokens, tokens), ("cost", limits.cost, self.cost)):
            if limit is None or not taken:
                continue
            # Measured over the last step rather than all steps: the conversation grows, so steps become more expensive.
            last, self._taken_before[name] = taken - self._taken_before.get(name, 0), taken
            if last > 0:
                # One less: the step that reaches the limit doesn't run its tools any more.
                left.append(math.ceil((limit - taken) / last) - 1)
        return max(0, min(left)) if left else None

    # -- what the user says meanwhile -----------------------------------------------------------------

    def steer(self, text: str) -> None:
        """Add a message from the user, for the next step; safe from any thread.

        Raises:
            UsageError: it isn't a string, or no step follows.
        """
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"steer takes a string, not {text!r}")
        with self._lock:
            if self._is_closed:
                raise UsageError(
                    "the agent has finished, so it can't be steered any more; send the text as a new turn, as in "
                    "conversation.send(…)"
                )
            self.added.append(Message("user", text))

    def is_steered(self) -> bool:
        """Whether the user has said more. If not, the run is closed to further messages."""
        # Checked and closed in one step: a message in between would be accepted and never read.
        with self._lock:
            self._is_closed = not self.added
            return not self._is_closed

    def cancel_tool(self, tool_call_id: str) -> None:
        """Stop one tool call; the others, and the run, continue. Safe from any thread.

        Raises:
            UsageError: no such call is running.
        """
        if not self._cancel_call(tool_call_id):
            raise UsageError(
                f"no call {tool_call_id!r} of a tool is running; the id is that of a ToolEnd event whose ToolResult "
                "hasn't come yet"
            )

    def _cancel_call(self, tool_call_id: str) -> bool:
        """Stop a call of this run, or else of its sub-agents; false if none with that id is running."""
        if self.progress is not None and self.progress.cancel_call(tool_call_id):
            return True
        # A copy: sub-agents come and go on the loop while this is called from another thread.
        return any(inner._cancel_call(tool_call_id) for inner in tuple(self.inner))

    def close(self) -> None:
        """Refuse further messages."""
        with self._lock:
            self._is_closed = True

    # -- for suspension -------------------------------------------------------------------------------

    def begin(self, messages: tuple[Message, ...]) -> LoopProgress:
        """Return the state that the loop starts from.

        Args:
            messages: the prompt, for a new run.
        """
        if self.is_nested:
            # A sub-agent's state is part of the outer loop's, so it needs no keeper of its own.
            self.progress = nest_progress(messages, self.list_spent)
        else:
            state = LoopState(messages) if self.start is None else self.start
            self.progress = self.keeper.begin(state, self.list_spent)
        if self.start is None and self.progress.step:
            self.start = self.progress.state
        self._read_spent(self.progress.spent_before)
        with self._lock:
            self.added[:0] = self.progress.added
            # Shared from here on, so what `steer` appends reaches the loop and is saved with its state.
            self.progress.added = self.added
        return self.progress

    def raise_if_waiting(self) -> None:
        """Tell the loop around a sub-agent that the call waits for a person.

        Raises:
            SuspendedError: it does.
        """
        if self.progress is not None:
            self.progress.raise_if_waiting()

    def list_spent(self) -> dict[str, Any]:
        """Return what has been used so far, as JSON values."""
        usage = None if self.usage is None else to_jsonable(self.usage)
        return {"usage": usage, "cost": self.cost, "tool_calls": self._calls}

    def _read_spent(self, spent: Mapping[str, Any]) -> None:
        """Restore what earlier runs have used."""
        if not spent:
            return
        # It comes from a saved state, possibly of another version or process.
        usage = spent.get("usage")
        self.usage = None if usage is None else from_jsonable(usage, "spent.usage")
        self.cost = spent.get("cost")
        self._calls = spent.get("tool_calls", 0)


current_book: ContextVar[Book | None] = ContextVar("mellea_agent", default=None)
"""The book of the agent's run that the current code is part of."""


def _name_model(sent: Any) -> tuple[str, str]:
    return sent.backend, sent.model
