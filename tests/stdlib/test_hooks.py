"""Hooks of observers: every request passes them once before it is sent, every answer before it is read, in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio
import pytest

import mellea
from mellea.core import ImageBlock, Message, ModelOption, Request, ToolCall
from mellea.core.events import Event, ReasoningDelta, StreamEnd, TextDelta, ToolEnd
from mellea.core.options import Deadlines
from mellea.core.results import EmbeddingResult, ImageResult
from mellea.errors import DeadlineError, OutputError, UsageError
from mellea.stdlib.requirements import check, simple_validate
from mellea.testing import Pause, RecordingObserver, ScriptedBackend
from mellea.traces import Observer, observe

pytestmark = pytest.mark.anyio


def rewrite(request: Request, old: str, new: str) -> Request:
    return replace(request, messages=tuple(Message(m.role, m.text.replace(old, new)) for m in request.messages))


class Redact(Observer):
    """Takes a word out of every request, in a worker thread."""

    def __init__(self, word: str = "secret", mark: str = "[…]") -> None:
        self.word, self.mark = word, mark
        self.seen: list[Request] = []

    def before_request(self, request: Request) -> Request:
        self.seen.append(request)
        return rewrite(request, self.word, self.mark)


class Clean:
    """Changes every answer; it is no subclass, and async."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    def begin(self, span: Any) -> None: ...
    def event(self, span: Any, events: Any) -> None: ...
    def end(self, span: Any) -> None: ...

    async def after_response(self, events: Sequence[Event]) -> list[Event]:
        return [
            replace(event, chunk=event.chunk.replace(self.old, self.new))
            if isinstance(event, (TextDelta, ReasoningDelta))
            else event
            for event in events
        ]


async def test_a_request_is_changed_before_it_is_sent_and_the_thunk_shows_what_was_sent() -> None:
    backend = ScriptedBackend(["o", "k"])
    m = mellea.start_session(backend)
    with observe(Redact()):
        thunk = await m.ainstruct("my secret plan")
    assert backend.prompts == ["my […] plan"] and thunk.value == "ok"
    assert thunk.request is not None and thunk.request.messages[-1].text == "my […] plan"
    await m.ainstruct("my secret plan")
    assert backend.prompts[-1] == "my secret plan"  # outside the block


async def test_every_request_passes_once_attempts_steps_judges_and_typed_calls_included() -> None:
    def look(place: str) -> str:
        """Look."""
        return "a secret cat"

    @dataclass
    class Pet:
        name: str

    backend = ScriptedBackend("bad", "good")
    m, hook = mellea.start_session(backend), Redact()
    is_good = check("is good", validation_fn=simple_validate(lambda text: text == "good"))
    with observe(hook):
        await m.ainstruct("a secret", requirements=[is_good])
        judged = mellea.start_session(ScriptedBackend("x", '{"reason": "so", "verdict": "yes"}'))
        await judged.ainstruct("c secret", requirements=["is secret"])
    assert [request.messages[-1].text for request in backend.requests[:1]] == ["a […]"]
    everything = [message.text for request in backend.requests for message in request.messages]
    assert len(hook.seen) == len(backend.requests) + 2 and not any("secret" in text for text in everything)
    asked = judged.backend
    assert isinstance(asked, ScriptedBackend)
    assert len(asked.requests) == 2 and not any(
        "secret" in message.text for request in asked.requests for message in request.messages
    )
    rest = mellea.start_session(ScriptedBackend([ToolEnd(ToolCall("1", "look", {"place": "x"}))], "done"))
    steps = Redact()
    with observe(steps):
        await rest.ainstruct("d secret", tools=[look], tool_calls="run")
    assert len(steps.seen) == 2
    typed, corrected = Redact(), ScriptedBackend("not json", '{"name": "Rex"}')
    with observe(typed):
        thunk = await mellea.start_session(corrected).ainstruct("e secret", format=Pet)
    assert thunk.parsed == Pet("Rex") and len(typed.seen) == 2
    assert not any("secret" in message.text for request in corrected.requests for message in request.messages)


async def test_hooks_see_a_request_in_order_and_an_answer_in_reverse() -> None:
    order: list[str] = []

    class Note(Observer):
        def __init__(self, name: str) -> None:
            self.name = name

        async def before_request(self, request: Request) -> None:
            order.append(f"before {self.name}")

        def after_response(self, events: Sequence[Event]) -> None:
            order.append(f"after {self.name}")

    m = mellea.start_session(ScriptedBackend("x"))
    with observe(Note("one")), observe(Note("two")):
        await m.ainstruct("x")
    assert order == ["before one", "before two", "after two", "after one"]


async def test_an_answer_is_held_back_until_it_was_changed_in_streams_too() -> None:
    m = mellea.start_session(ScriptedBackend(["pass", Pause(0.01), "word: ", ReasoningDelta("the password"), "hi"]))
    with observe(Clean("password", "[…]")):
        pieces = [piece async for piece in m.astream("x")]
        thunk = await m.ainstruct("x")
    assert "".join(pieces) == thunk.value == "[…]: hi" and thunk.thinking == "the […]"
    assert thunk.finish_reason == "stop" and thunk.response_id is not None


async def test_a_held_back_answer_isnt_taken_for_a_silent_provider() -> None:
    m = mellea.start_session(ScriptedBackend([part for n in range(8) for part in (str(n), Pause(0.05))]))
    patient = mellea.Deadlines(first_byte=0.25, between_bytes=0.25)
    with observe(Clean("x", "y")):
        assert str(await m.ainstruct("x", model_options={"timeout": patient})) == "01234567"


async def test_a_hook_that_refuses_ends_the_call_and_nothing_is_sent() -> None:
    class Policy(Observer):
        def before_request(self, request: Request) -> None:
            if "bomb" in request.messages[-1].text:
                raise UsageError("the policy forbids this request")

        def after_response(self, events: Sequence[Event]) -> None:
            if any("launch code" in event.chunk for event in events if isinstance(event, TextDelta)):
                raise OutputError("the policy forbids this answer")

    backend = ScriptedBackend("the launch ", "code is 7")
    m = mellea.start_session(ScriptedBackend(["the launch ", "code is 7"]))
    with observe(Policy()):
        with pytest.raises(UsageError, match="forbids this request") as refused:
            await mellea.start_session(backend).ainstruct("build a bomb")
        with pytest.raises(OutputError, match="forbids this answer") as held:
            await m.ainstruct("x")
    assert backend.requests == [] and held.value.partial == ""
    assert any("before_request()" in note for note in refused.value.__notes__)


@pytest.mark.parametrize(
    ("method", "returned", "said"),
    [
        ("before_request", 7, "returns a Request, .* not 7"),
        ("after_response", ["x"], "returns a list of events, or None"),
        ("after_response", [], "left out the StreamEnd, with which every answer ends"),
        ("before_request", ZeroDivisionError("oh"), "before_request.* failed: ZeroDivisionError: oh"),
    ],
)
async def test_a_hook_that_is_wrong_fails_the_call(method: str, returned: Any, said: str) -> None:
    def hook(value: Any) -> Any:
        if isinstance(returned, Exception):
            raise returned
        return returned

    observer = Observer()
    setattr(observer, method, hook)
    hook.__qualname__ = method
    with observe(observer), pytest.raises((UsageError, OutputError), match=said):
        await mellea.start_session(ScriptedBackend("x")).ainstruct("x")


async def test_images_and_embeddings_pass_the_hooks_before_they_are_asked_for() -> None:
    asked: list[Any] = []

    class Artist(ScriptedBackend):
        async def embed(self, texts: Any) -> EmbeddingResult:
            asked.extend(texts)
            return EmbeddingResult(tuple((0.0,) for _ in texts))

        async def generate_image(self, messages: Any, **options: Any) -> ImageResult:
            asked.extend(message.text for message in messages)
            return ImageResult((ImageBlock(data=b"x"),))

    m = mellea.start_session(Artist("x"))
    with observe(Redact()):
        await m.aembed(["a secret", "b"])
        await m.agenerate_image("c secret")
    assert asked == ["a […]", "b", "c […]"]


async def test_a_cancelled_call_closes_the_backend_behind_its_hooks() -> None:
    backend = ScriptedBackend(["a", Pause(float("inf"))])
    with observe(Clean("x", "y")), anyio.move_on_after(0.05):
        await mellea.start_session(backend).ainstruct("x")
    backend.assert_closed()


async def test_what_a_hook_took_out_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with observe(Redact("hunter2")):
        await mellea.start_session(ScriptedBackend("x")).ainstruct("the password is hunter2")
    assert "hunter2" not in caplog.text


async def test_a_stream_without_hooks_is_the_backends_own_iterator() -> None:
    """Nothing stands between: an end that the backend gives is the end."""
    m = mellea.start_session(ScriptedBackend([TextDelta("x"), StreamEnd("length")]))
    assert (await m.ainstruct("x")).finish_reason == "length"


class Ask(Observer):
    """Has another backend asked."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.seen: list[tuple[Any, Request]] = []

    async def choose_backend(self, backend: Any, request: Request) -> Any:
        self.seen.append((backend, request))
        return self.backend


async def test_a_hook_has_another_backend_asked_in_place_of_the_first() -> None:
    first, second = ScriptedBackend("first"), ScriptedBackend("second")
    m = mellea.MelleaSession(first)
    ask = Ask(second)
    with observe(Redact()), observe(ask):
        thunk = await m.ainstruct("A secret.")
    assert (str(thunk), len(first.requests)) == ("second", 0)
    assert second.requests[0].messages[-1].text == "A […]."
    assert ask.seen[0][0] is first
    with observe(Ask(None)):
        assert str(await m.ainstruct("Hello")) == "first"


async def test_a_hook_that_chooses_no_backend_is_an_error() -> None:
    m = mellea.MelleaSession(ScriptedBackend("x"))
    with observe(Ask("openai")), pytest.raises(UsageError, match="returns a backend, or None, not 'openai'"):
        await m.ainstruct("Hello")


class Slow(Observer):
    """Takes longer than a provider may be silent."""

    def __init__(self, seconds: float = 0.3) -> None:
        self.seconds = seconds

    async def before_request(self, request: Request) -> None:
        await anyio.sleep(self.seconds)

    def choose_backend(self, backend: Any, request: Request) -> None:
        time.sleep(self.seconds)

    def after_response(self, events: Sequence[Event]) -> None:
        time.sleep(self.seconds)


async def test_a_slow_hook_isnt_taken_for_a_silent_provider_but_a_silent_provider_still_is() -> None:
    silence = {ModelOption.TIMEOUT: Deadlines(first_byte=0.15, between_bytes=0.15, total=None)}
    m = mellea.start_session(ScriptedBackend(["a", "b"], [Pause(float("inf"))], ["c"]))
    with observe(Slow()):
        assert (await m.ainstruct("x", model_options=silence)).value == "ab"
        with pytest.raises(DeadlineError, match=r"silent for 0\.15 s"), anyio.fail_after(30):
            await m.ainstruct("x", model_options=silence)
    with observe(Slow(float("inf"))), anyio.fail_after(30), pytest.raises(DeadlineError, match=r"did not finish"):
        await m.ainstruct("x", model_options={ModelOption.TIMEOUT: Deadlines(total=0.2)})


async def test_a_call_that_is_cancelled_in_a_hook_leaves_nothing_behind() -> None:
    m = mellea.start_session(ScriptedBackend("a"))
    slow = Slow(float("inf"))
    with observe(slow), anyio.move_on_after(0.1):
        await m.ainstruct("x")
    assert m.backend.requests == []  # type: ignore[attr-defined]
    with observe(Slow(0)):
        assert (await m.ainstruct("x")).value == "a"


async def test_a_hook_changes_the_options_the_tools_and_the_model_of_a_request() -> None:
    def look(place: str) -> str:
        """Look somewhere."""
        return f"a cat in {place}"

    small = ScriptedBackend("from the small one")

    class Policy(Observer):
        def before_request(self, request: Request) -> Request:
            kept = tuple(tool for tool in request.tools if tool.name != "look")
            return replace(request, tools=kept, options={**request.options, ModelOption.TEMPERATURE: 0.25})

        def choose_backend(self, backend: Any, request: Request) -> Any:
            return small

    large = ScriptedBackend("from the large one")
    with observe(RecordingObserver()) as told, observe(Policy()):
        thunk = await mellea.start_session(large).ainstruct("x", tools=[look], tool_calls="run")
    assert thunk.value == "from the small one" and not large.requests
    (request,) = small.requests
    assert request.tools == () and request.options[ModelOption.TEMPERATURE] == 0.25
    span = next(span for span in told.spans if span.is_request)
    assert span.request is not None and span.request.options == request.options and span.request.tools == ()


@pytest.mark.parametrize("wrong", ["before_requst", "after_answer", "choose_model"])
def test_a_method_that_is_nearly_a_hook_is_refused_since_it_would_never_be_called(wrong: str) -> None:
    observer = type("Redact", (Observer,), {wrong: lambda self, request: None, "_before_all": lambda self: None})()
    with pytest.raises(UsageError, match=rf"Redact\.{wrong} isn't a hook, .* rename it to {wrong[:6]}"):
        observe(observer)
    with pytest.raises(UsageError, match="isn't a hook"):
        mellea.traces.add_observer(observer)
    with observe(type("Fine", (Observer,), {"_before_all": lambda self: None})()):
        pass


def test_a_hook_that_cant_be_called_is_refused() -> None:
    with pytest.raises(UsageError, match="its before_request is 3"):
        observe(type("H", (Observer,), {"before_request": 3})())


@pytest.mark.parametrize(("change", "said"), [(len, r"len\(\) returned 1;"), ("x", "a text to another, not 'x'")])
async def test_a_function_for_change_texts_that_is_wrong_is_named(change: Any, said: str) -> None:
    class Wrong(Observer):
        def before_request(self, request: Request) -> Request:
            return request.change_texts(change)

    with observe(Wrong()), pytest.raises(UsageError, match=said):
        await mellea.start_session(ScriptedBackend("x")).ainstruct("x")


class Guard(Observer):
    """Asks a model about each request and each answer, as a check of what may be said does."""

    def __init__(self, *, is_async: bool) -> None:
        self.m = mellea.start_session(ScriptedBackend("It is fine."))
        self.asked: list[str] = []
        if is_async:
            self.before_request = self.after_response = self.choose_backend = self._ask_async
        else:
            self.before_request = self.after_response = self.choose_backend = self._ask

    def _ask(self, *about: Any) -> None:
        self.asked.append(str(self.m.instruct("Is it?")))

    async def _ask_async(self, *about: Any) -> None:
        self.asked.append(str(await self.m.ainstruct("Is it?")))


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_hook_may_ask_a_model_without_being_asked_about_that(is_async: bool) -> None:
    guard, redact = Guard(is_async=is_async), Redact()
    with observe(guard), observe(redact):
        with anyio.fail_after(30):
            answer = await mellea.start_session(ScriptedBackend("a")).ainstruct("What is a secret?")
    assert (str(answer), guard.asked) == ("a", ["It is fine."] * 3)
    assert [request.messages[-1].text for request in redact.seen].count("Is it?") == 3, "the others see its requests"


async def test_two_hooks_that_ask_models_end() -> None:
    first, second = Guard(is_async=True), Guard(is_async=True)
    with observe(first), observe(second), anyio.fail_after(30):
        assert str(await mellea.start_session(ScriptedBackend("a")).ainstruct("x")) == "a"
    # Each asks about the call, and about what the other asks about it.
    assert len(first.asked) == len(second.asked) == 3 + 3 * 3


class NoTools(Observer):
    """Takes a tool out of every request."""

    def before_request(self, request: Request) -> Request:
        return replace(request, tools=tuple(tool for tool in request.tools if tool.name != "delete"))


@pytest.mark.parametrize("as_agent", [False, True])
async def test_a_tool_that_a_hook_takes_away_is_not_run_though_the_model_calls_it(as_agent: bool) -> None:
    ran: list[str] = []

    def delete(name: str) -> str:
        """Delete a file."""
        ran.append(f"delete {name}")
        return "done"

    def show(name: str) -> str:
        """Show a file."""
        ran.append(f"show {name}")
        return "done"

    calls = [ToolEnd(ToolCall(name, name, {"name": "a"})) for name in ("delete", "show")]
    backend = ScriptedBackend(calls, "Sorry.")
    with observe(NoTools()):
        if as_agent:
            await mellea.Agent(backend, [delete, show]).arun("x")
        else:
            await mellea.start_session(backend).ainstruct("x", tools=[delete, show], tool_calls="run")
    assert ran == ["show a"]
    results = [*backend.requests[-1].messages[-1].blocks, *backend.requests[-1].messages[-2].blocks]
    assert any("there is no tool 'delete'" in str(getattr(block, "parts", "")) for block in results)
