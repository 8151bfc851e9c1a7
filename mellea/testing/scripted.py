"""A backend that replays scripted answers, with delays and faults, and records its requests."""

from __future__ import annotations

import copy
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from mellea.core.attributes import SCRIPTED_WAYS, find_attribute
from mellea.core.backend import Backend, Capabilities, Request, check_supported
from mellea.core.entrance import entrance
from mellea.core.events import Event, FinishReason, StreamEnd, TextDelta, ToolEnd, Usage, UsageEvent
from mellea.core.options import ModelOption
from mellea.core.requirement import check_function
from mellea.core.runtime.loop import Waiter, create_waiter
from mellea.core.structured.prompting import prompt_for_schema
from mellea.errors import UsageError

__all__ = ["Gate", "Pause", "ScriptedBackend"]


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait that many seconds before the next step; 0 only lets other tasks run, infinity waits forever."""

    seconds: float


@dataclass(slots=True)
class Gate:
    """Wait until the test calls `open()`, from any thread."""

    is_open: bool = False
    _waiters: list[Waiter] = field(default_factory=list, repr=False)

    def open(self) -> None:
        """Let scripts pass this gate, now and later."""
        self.is_open = True
        for waiter in list(self._waiters):
            waiter.wake()

    async def wait(self) -> None:
        """Wait until the gate is open."""
        waiter = create_waiter()
        self._waiters.append(waiter)
        try:
            # Checked after the waiter has been added to the list: a gate that opens in between still wakes it.
            if not self.is_open:
                await waiter.wait()
        finally:
            self._waiters.remove(waiter)


Step = str | Event | Pause | Gate | BaseException
_STEPS = (str, Event, Pause, Gate, BaseException)
Script = Step | Iterable[Step]
Reply = Script | Callable[[Request], Script]


_REPLIES = "the replies have no name: ScriptedBackend('first', 'second'); the last one is repeated"


@entrance(
    "ScriptedBackend", **dict.fromkeys(("answers", "outputs", "repeat", "replies", "responses", "texts"), _REPLIES)
)
class ScriptedBackend(Backend):
    """Answers each request with the next script; the last one is repeated when they run out.

    Args:
        replies: each is a step, an iterable of steps, or a function that makes either from the request. A step is a
            text (a delta), an event, a `Pause`, a `Gate`, or an exception to raise. A script that doesn't raise and
            doesn't end with a `StreamEnd` gets one, unless `is_cut`.
        is_cut: leave the `StreamEnd` out, as with a broken connection.
        capabilities: the capabilities to report; everything by default.
        usage: the usage to report before the end of each script.

    Attributes:
        requests: all requests, in order.
        closed: for each request, whether its stream was closed.
    """

    name = "scripted"
    model_id = "script"

    def __init__(
        self,
        *replies: Reply,
        is_cut: bool = False,
        capabilities: Capabilities | None = None,
        usage: Usage | None = None,
        model_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model_options=model_options)
        if not replies:
            raise UsageError("ScriptedBackend takes at least one reply, such as ScriptedBackend('Hello')")
        for reply in replies:
            if callable(reply):
                check_function("ScriptedBackend", reply, "the request")
        if not isinstance(capabilities, Capabilities | None):
            raise UsageError(f"capabilities takes Capabilities(…), or None, not {capabilities!r}")
        self.capabilities = capabilities or EVERYTHING
        self.requests: list[Request] = []
        self.closed: list[bool] = []
        self._replies = replies
        self._is_cut = is_cut
        self._lock = threading.Lock()
        self._usage = usage

    @property
    def prompts(self) -> list[str]:
        """The text of the last message of every request."""
        return [request.messages[-1].content for request in self.requests]

    def assert_closed(self) -> None:
        """Fail if a stream that was opened hasn't been closed.

        Raises:
            AssertionError: names the first one.
        """
        if not all(self.closed):
            raise AssertionError(f"the stream of request {self.closed.index(False)} is still open")

    if not TYPE_CHECKING:  # hidden from type checkers, which then report names that don't exist

        def __getattr__(self, name: str) -> Any:
            return find_attribute(self, name, SCRIPTED_WAYS)

    async def run(self, request: Request) -> AsyncIterator[Event]:
        """Run the next script.

        Raises:
            UnsupportedError: the request needs something that the capabilities don't include; it isn't counted.
        """
        check_supported(self, request)
        if self.capabilities.structured_output == "prompt":
            request = prompt_for_schema(request)
        # Streams may be opened from several loops at once, and each has to have a number of its own.
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
            self.closed.append(False)
        has_ended = has_call = False
        try:
            # Lazily, so that a script may be a generator that reacts to what happens in the meantime.
            for step in self._get_script(number, request):
                event = TextDelta(step) if isinstance(step, str) else await _perform(step)
                if event is not None:
                    has_ended = has_ended or isinstance(event, StreamEnd)
                    has_call = has_call or isinstance(event, ToolEnd)
                    yield event
            if self._usage is not None:
                yield UsageEvent(self._usage)
            if not has_ended and not self._is_cut:
                reason: FinishReason = "tool_call" if has_call else "stop"
                yield StreamEnd(reason, response_id=f"script-{number + 1}", model=self.model_id)
        finally:
            self.closed[number] = True

    def _get_script(self, number: int, request: Request) -> Iterable[Step]:
        reply = self._replies[min(number, len(self._replies) - 1)]
        script = reply(request) if callable(reply) else reply
        if isinstance(script, _STEPS):
            return [script]
        if isinstance(script, Mapping) or not isinstance(script, Iterable):
            raise _refuse(script)  # the keys of a dict would be steps
        return script


async def _perform(step: Step) -> Event | None:
    """Perform a step, and return the event to yield, if there is one."""
    match step:
        case Pause(seconds):
            await (anyio.sleep_forever() if seconds == float("inf") else anyio.sleep(seconds))
        case Gate():
            await step.wait()
        case BaseException():
            raise copy.copy(step)  # a repeated script must not add to the traceback of the first run
        case Event():
            return step
        case _:
            raise _refuse(step)
    return None


def _refuse(given: object) -> UsageError:
    return UsageError(
        f"a script is made of strings, events, Pauses, Gates and exceptions, not of {given!r}; a typed answer is the "
        "text of its JSON"
    )


EVERYTHING = Capabilities(
    options=frozenset(str(option) for option in ModelOption)
    - {ModelOption.SYSTEM_PROMPT, ModelOption.TOOLS, ModelOption.TIMEOUT},
    tools=True,
    structured_output="native",
    images=True,
    files=True,
    prefill=True,
    prompt_caching=True,
    builtin_tools=frozenset({"ai_gateway", "anthropic", "gemini", "openai"}),
)
