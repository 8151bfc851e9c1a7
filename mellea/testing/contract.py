"""The contract that every backend has to pass, as tests to inherit.

    from mellea.testing import BackendContract

    class TestMyBackend(BackendContract):
        def make_backend(self):
            return MyBackend("a-model", base_url=server.url)

`pytest` (or `unittest`, with `unittest.TestCase` as a second base) then runs all tests below, on asyncio
and, where it is installed, on trio. They need no plugin and no fixture. Features that the backend's capabilities
don't name must be refused; their tests are skipped.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import ExitStack, aclosing, contextmanager, suppress
from typing import Any, ClassVar, cast, get_args
from unittest import SkipTest, mock

import anyio

from mellea.core.accumulator import Accumulator, Generation
from mellea.core.backend import Backend, OutputSchema, Request, ToolSpec
from mellea.core.blocks import FileBlock, ImageBlock, ToolOutput
from mellea.core.events import (
    Event,
    FinishReason,
    ReasoningDelta,
    StreamEnd,
    TextDelta,
    ToolDelta,
    ToolEnd,
    ToolStart,
    UsageEvent,
)
from mellea.core.messages import Message, assistant_message, system_message, user_message
from mellea.core.options import ModelOption
from mellea.core.runtime import launch
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UnsupportedError

__all__ = ["BackendContract"]

Test = Callable[[Any], Coroutine[Any, Any, None]]


def _on_every_loop(test: Test) -> Callable[[Any], None]:
    """Make a plain test of an async one: it runs on each kind of loop, with a time limit."""

    def run(self: BackendContract) -> None:
        async def main() -> None:
            with anyio.fail_after(self.seconds):
                await test(self)

        for loop in self.loops:
            try:
                anyio.run(main, backend=loop)
            except BaseException as error:
                error.add_note(f"on {loop}")
                raise

    run.__name__, run.__qualname__, run.__doc__ = test.__name__, test.__qualname__, test.__doc__
    return run


class BackendContract:
    """Tests of one backend: inherit from it and implement `make_backend`.

    Attributes:
        loops: kinds of event loop to run on.
        seconds: how long one test may take on one of them.
        close_seconds: how long a backend may take to stop its work.
        prompt: something with a short answer.
        long_prompt: something whose answer takes long enough to be cut off.
        tool_prompt: messages that lead to a call of `get_weather(city)`, which is asked for as well.
        tool_choice: the option that forces a call; `None` if there is none and the prompt has to be enough.
        few_tokens: a `max_tokens` that no answer to `long_prompt` fits in.
        secrets: keys that the backend was given and must never show.
    """

    loops: ClassVar[tuple[str, ...]] = ("asyncio", *(["trio"] if importlib.util.find_spec("trio") else []))
    seconds: ClassVar[float] = 60.0
    close_seconds: ClassVar[float] = 2.5
    prompt: ClassVar[str] = "Say hello."
    long_prompt: ClassVar[str] = "Count from one to one hundred, in words."
    tool_prompt: ClassVar[tuple[Message | str, ...]] = ("What is the weather in Lyon? Ask get_weather.",)
    tool_choice: ClassVar[str | None] = "required"
    few_tokens: ClassVar[int] = 1
    secrets: ClassVar[tuple[str, ...]] = ()

    def make_backend(self) -> Backend:
        """Return a new backend; called at least once per test."""
        raise NotImplementedError(f"{type(self).__name__} has to say how to make its backend: def make_backend(self)")

    def assert_idle(self, backend: Backend) -> None:
        """Fail if the backend, or the server behind it, is still working. Override it if you can tell."""

    # -- making one -----------------------------------------------------------------------------------

    def test_making_one_does_no_io(self) -> None:
        """No network, file or thread is used before the first request."""
        self.make_backend()  # the first one may import
        began = time.monotonic()
        # A `Backend` may be made at import, in a loop, or in a process that forks later.
        with _no_io():
            self.make_backend()
        if time.monotonic() - began >= 0.5:
            raise AssertionError("making a backend took more than half a second")

    def test_a_backend_says_what_it_is(self) -> None:
        """It has a name, a model, and capabilities with known options."""
        backend = self.make_backend()
        if not isinstance(backend, Backend):
            raise AssertionError(f"{backend!r} is not a mellea.backends.Backend")
        for name in ("name", "model_id"):
            if not isinstance(getattr(backend, name, None), str):
                raise AssertionError(f"the backend's .{name} is not text")
        unknown = set(backend.capabilities.options) - set(map(str, ModelOption))
        if unknown:
            raise AssertionError(f"the capabilities name options that don't exist: {sorted(unknown)}")

    def test_its_repr_shows_no_key(self) -> None:
        """No `repr` or `str` of a backend contains its keys."""
        backend = self.make_backend()
        for secret in self.secrets:
            # A repr ends up in logs and tracebacks.
            if secret in repr(backend) + str(backend):
                raise AssertionError("the backend's repr shows its key")

    # -- one answer -----------------------------------------------------------------------------------

    @_on_every_loop
    async def test_a_stream_has_one_end(self) -> None:
        """Events come in their order, and exactly one `StreamEnd` after all that is said."""
        events = await self._collect(self.make_backend(), self.request(self.prompt))
        if not any(isinstance(event, TextDelta) for event in events):
            raise AssertionError("there was no text")

    @_on_every_loop
    async def test_the_deltas_are_the_text(self) -> None:
        """Read through a thunk, the deltas concatenate to the value, and the run gives back what it held."""
        backend = self.make_backend()
        thunk = _thunk(backend, self.request(self.prompt))
        text = "".join([delta async for delta in thunk])
        if text != thunk.value or not text:
            raise AssertionError(f"the deltas are {text!r}, the value is {thunk.value!r}")
        await thunk.cancel()  # of a finished run it waits for the close
        await self._becomes_idle(backend)

    @_on_every_loop
    async def test_usage_is_counted_where_it_is_reported(self) -> None:
        """Tokens are above zero, or `None`."""
        usage = _fold(await self._collect(self.make_backend(), self.request(self.prompt))).usage
        if usage is None:
            raise SkipTest("the backend reports no usage")
        for name in ("input_tokens", "output_tokens"):
            count = getattr(usage, name)
            if count is not None and count <= 0:
                raise AssertionError(f"usage.{name} is {count!r}")

    @_on_every_loop
    async def test_a_conversation_is_accepted(self) -> None:
        """A system message and several turns are accepted."""
        messages = (
            system_message("Answer briefly."),
            user_message("My name is Ada."),
            assistant_message("Hello Ada."),
            user_message("What is my name?"),
        )
        generation = _fold(await self._collect(self.make_backend(), self.request(*messages)))
        if not generation.text:
            raise AssertionError("there was no answer to a conversation of four messages")

    @_on_every_loop
    async def test_max_tokens_ends_with_length(self) -> None:
        """A truncated answer has the finish reason "length"."""
        backend = self.make_backend()
        if "max_tokens" not in backend.capabilities.options:
            raise SkipTest("the backend doesn't take max_tokens")
        generation = _fold(await self._collect(backend, self.request(self.long_prompt, max_tokens=self.few_tokens)))
        if generation.finish_reason != "length":
            raise AssertionError(
                f"the finish reason was {generation.finish_reason!r}, not 'length'; if the provider gives none,"
                " compare the output tokens with the limit"
            )

    @_on_every_loop
    async def test_a_schema_is_held(self) -> None:
        """The text is JSON that matches the schema."""
        backend = self.make_backend()
        if backend.capabilities.structured_output is None:
            raise SkipTest("the backend doesn't do structured output")
        request = self.request("A town and its population, as JSON.", output_schema=_TOWN)
        text = _fold(await self._collect(backend, request)).text
        match json.loads(text):
            case {"name": str(), "population": int(), **others} if not others:
                pass
            case _:
                raise AssertionError(f"the answer doesn't match the schema: {text!r}")

    @_on_every_loop
    async def test_a_tool_is_called(self) -> None:
        """A call arrives complete, with valid arguments, and its result can be sent back."""
        backend = self.make_backend()
        if not backend.capabilities.tools:
            raise SkipTest("the backend has no tools")
        options: dict[str, Any] = {} if self.tool_choice is None else {str(ModelOption.TOOL_CHOICE): self.tool_choice}
        asked = self.request(*self.tool_prompt, tools=(_WEATHER,), **options)
        called = _fold(await self._collect(backend, asked))
        if called.finish_reason != "tool_call":
            raise AssertionError(f"the finish reason was {called.finish_reason!r}, not 'tool_call'")
        results: list[Message] = []
        # Results go back, too: providers check ids, order and roles only then.
        for call in called.tool_calls:
            if call.tool_name != _WEATHER.name or not call.tool_call_id:
                raise AssertionError(f"this was called: {call!r}")
            if not (call.is_valid and isinstance(call.tool_args.get("city"), str)):
                raise AssertionError(f"the arguments were {call.raw_args!r}")
            results.append(Message("tool", ToolOutput(call.tool_call_id, call.tool_name, "sunny, 21 degrees")))
        await self._collect(backend, self.request(*self.tool_prompt, called.message, *results, tools=(_WEATHER,)))

    # -- being cut off --------------------------------------------------------------------------------

    @_on_every_loop
    async def test_closing_early_stops_the_work(self) -> None:
        """`aclose()` after the first event returns in time, several times in a row, and frees what it used."""
        backend = self.make_backend()
        # Several times: a connection or slot that isn't released only shows at the second or third.
        for _ in range(5):
            async with _stream(backend, self.request(self.long_prompt)) as stream:
                await anext(stream)
                await self._in_close_time(stream.aclose)
        await self._becomes_idle(backend)
        await self._collect(backend, self.request(self.prompt))

    @_on_every_loop
    async def test_closing_before_the_first_event_sends_nothing(self) -> None:
        """A stream that is never started sends nothing."""
        backend = self.make_backend()
        async with _stream(backend, self.request(self.long_prompt)) as stream:
            await self._in_close_time(stream.aclose)
        await self._becomes_idle(backend)

    @_on_every_loop
    async def test_a_cancel_scope_stops_the_work(self) -> None:
        """Cancelled while it waits for the next event, it ends in time and doesn't swallow the cancellation."""
        backend = self.make_backend()
        after = 0
        async with _stream(backend, self.request(self.long_prompt)) as stream:
            with anyio.CancelScope() as scope:
                await anext(stream)
                began = time.monotonic()
                scope.cancel()
                async for _ in stream:
                    after += 1
                    # Without it a backend that swallows the cancellation would hang the test.
                    if after >= 1000:
                        raise AssertionError("1,000 events came after the cancellation")
        seconds = time.monotonic() - began
        if not scope.cancelled_caught:
            raise AssertionError(
                f"the cancellation was swallowed, and {after} events came after it; or the whole answer had arrived by "
                "then: a long_prompt takes a longer answer"
            )
        if seconds >= self.close_seconds:
            raise AssertionError(f"it took {seconds:.1f} s to stop, more than {self.close_seconds:g} s")
        await self._becomes_idle(backend)
        await self._collect(backend, self.request(self.prompt))

    @_on_every_loop
    async def test_a_thunk_that_is_cancelled_stops_the_work(self) -> None:
        """The same from outside, as `thunk.cancel()` does it; the text that had arrived is kept."""
        backend = self.make_backend()
        thunk = _thunk(backend, self.request(self.long_prompt))
        first = await anext(aiter(thunk))
        await self._in_close_time(thunk.cancel)
        if not thunk.partial.startswith(first):
            raise AssertionError(f"{first!r} had arrived, and after cancel() the thunk has {thunk.partial!r}")
        await self._becomes_idle(backend)

    # -- more than one --------------------------------------------------------------------------------

    @_on_every_loop
    async def test_two_runs_at_the_same_time_dont_mix(self) -> None:
        """Both streams are complete."""
        backend = self.make_backend()
        request, whole = self.request(self.prompt), []

        async def read() -> None:
            whole.append(await self._collect(backend, request))

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(read)
        if len(whole) != 2:
            raise AssertionError(f"{len(whole)} of 2 streams ran to their end")

    def test_one_backend_runs_on_one_loop_after_another(self) -> None:
        """`asyncio.run` twice, then trio, with one object; each loop ends without a warning."""
        backend = self.make_backend()

        async def main() -> None:
            with anyio.fail_after(self.seconds):
                await self._collect(backend, self.request(self.prompt))

        # The same kind twice in a row, then the others: anything bound to the first loop is gone by then.
        for loop in (self.loops[0], *self.loops):
            anyio.run(main, backend=loop)
            # Anything left open causes a warning when it is collected, which fails the test.
            gc.collect()

    @_on_every_loop
    async def test_a_closed_backend_can_be_used_again(self) -> None:
        """`aclose()` releases what is held on this loop, and the backend still works."""
        backend = self.make_backend()
        await backend.aclose()
        await self._collect(backend, self.request(self.prompt))
        await backend.aclose()
        await self._collect(backend, self.request(self.prompt))
        await backend.aclose()

    # -- what it can't --------------------------------------------------------------------------------

    @_on_every_loop
    async def test_what_it_cant_do_is_refused(self) -> None:
        """An unknown option, and whatever the capabilities don't name, is an `UnsupportedError`."""
        backend = self.make_backend()
        can = backend.capabilities
        requests = [self.request(self.prompt, no_such_option=1)]
        if not can.tools:
            requests.append(self.request(self.prompt, tools=(ToolSpec("now", "The time.", {"type": "object"}),)))
        if can.structured_output is None:
            requests.append(self.request(self.prompt, output_schema=_TOWN))
        if not can.images:
            requests.append(self.request(user_message("What is this?", ImageBlock(data=b"png"))))
        if not can.files:
            requests.append(self.request(user_message("What is this?", FileBlock("text/plain", b"x"))))
        for request in requests:
            try:
                async with _stream(backend, request) as stream:
                    await anext(stream)
            except UnsupportedError as error:
                if not str(error):
                    raise AssertionError("the error says nothing") from error
            else:
                raise AssertionError(f"this request was sent, though the capabilities don't allow it: {request}")
        self.assert_idle(backend)

    # -- for the tests --------------------------------------------------------------------------------

    def request(
        self,
        *messages: Message | str,
        tools: tuple[ToolSpec, ...] = (),
        output_schema: OutputSchema | None = None,
        **options: Any,
    ) -> Request:
        """Make a request.

        Args:
            messages: the conversation; a text is a user's message.
            tools: what the model may call.
            output_schema: what the answer has to fit.
            options: model options by name, as `ModelOption` has them.
        """
        return Request(
            tuple(item if isinstance(item, Message) else user_message(item) for item in messages),
            tools=tools,
            output_schema=output_schema,
            options=options,
        )

    async def _collect(self, backend: Backend, request: Request) -> list[Event]:
        """Read a stream to its end and check its order."""
        async with _stream(backend, request) as stream:
            events = [event async for event in stream]
        _check_order(events)
        return events

    async def _in_close_time(self, close: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        began = time.monotonic()
        await close()
        seconds = time.monotonic() - began
        if seconds >= self.close_seconds:
            raise AssertionError(f"the close took {seconds:.1f} s, more than {self.close_seconds:g} s")

    async def _becomes_idle(self, backend: Backend) -> None:
        until = time.monotonic() + self.close_seconds
        while time.monotonic() < until:
            with suppress(AssertionError):
                return self.assert_idle(backend)
            await anyio.sleep(0.02)
        return self.assert_idle(backend)


_WEATHER = ToolSpec(
    "get_weather",
    "The weather in a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False},
)

_TOWN = OutputSchema(
    "town",
    {
        "type": "object",
        # Bounded: a small model may continue a name until its tokens are used up.
        "properties": {"name": {"type": "string", "maxLength": 30}, "population": {"type": "integer"}},
        "required": ["name", "population"],
        "additionalProperties": False,
    },
)


def _thunk(backend: Backend, request: Request) -> ModelOutputThunk[Any]:
    run = launch(
        lambda run: backend.run(request), deadlines=request.deadlines, backend=backend.name, model=backend.model_id
    )
    return ModelOutputThunk(run)


def _stream(backend: Backend, request: Request) -> aclosing[AsyncGenerator[Event, None]]:
    stream = backend.run(request)
    if not hasattr(stream, "aclose"):
        raise AssertionError(f"run() returned a {type(stream).__name__}, which can't be closed")
    return aclosing(cast("AsyncGenerator[Event, None]", stream))


def _fold(events: list[Event]) -> Generation:
    accumulator = Accumulator()
    accumulator.feed(events)
    return accumulator.generation()


def _check_order(events: list[Event]) -> None:
    """Fail unless these events form one complete stream."""
    for event in events:
        if not isinstance(event, Event):
            raise AssertionError(f"{event!r} is not an event")
        if isinstance(event, (TextDelta, ReasoningDelta, ToolDelta)) and not isinstance(event.chunk, str):
            raise AssertionError(f"the chunk of {event!r} is not text")
    ends = [(number, event) for number, event in enumerate(events) if isinstance(event, StreamEnd)]
    if len(ends) != 1:
        raise AssertionError(f"there were {len(ends)} StreamEnds in a stream of {len(events)} events, not one")
    (number, end), *_ = ends
    late = [event for event in events[number + 1 :] if not isinstance(event, UsageEvent)]
    if late:
        raise AssertionError(f"after the StreamEnd came {late[0]!r}")
    if end.finish_reason not in get_args(FinishReason):
        raise AssertionError(f"{end!r} has a finish reason that doesn't exist")
    _check_calls(events)


def _check_calls(events: list[Event]) -> None:
    started: set[str] = set()
    for event in events:
        if isinstance(event, ToolStart):
            started.add(event.tool_call_id)
        elif isinstance(event, (ToolDelta, ToolEnd)):
            call = event.tool_call_id if isinstance(event, ToolDelta) else event.tool_call.tool_call_id
            if call not in started:
                raise AssertionError(f"{event!r} came before the start of its call")
            if isinstance(event, ToolEnd):
                started.discard(call)
    if started:
        raise AssertionError(f"tool calls were begun and not ended: {sorted(started)}")


@contextmanager
def _no_io() -> Iterator[None]:
    def refuse(name: str) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            raise AssertionError(f"making a backend called {name}; do that at the first request")

        return called

    names = ("socket.socket.connect", "socket.getaddrinfo", "builtins.open", "io.open", "threading.Thread.start")
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch(name, refuse(name)))
        yield
