"""A backend around another one: nothing is lost on the way, and nothing stays open."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import mellea
from mellea.backends import FallbackBackend, WrappedBackend, open_stream
from mellea.core.backend import Backend, Request
from mellea.core.events import Event, TextDelta, Usage
from mellea.core.messages import user_message
from mellea.core.results import EmbeddingResult, Probe
from mellea.core.videos import VideoRequest
from mellea.errors import ConnectError, UsageError
from mellea.testing import BackendContract, Pause, ScriptedBackend
from tests.testing.test_contract import reply

pytestmark = pytest.mark.anyio


class Shouting(WrappedBackend):
    """An override as an author writes it."""

    async def run(self, request: Request) -> AsyncIterator[Event]:
        async with open_stream(self.backend, request) as stream:
            async for event in stream:
                yield TextDelta(event.chunk.upper()) if isinstance(event, TextDelta) else event


class Told(ScriptedBackend):
    """Notes which methods were called."""

    def __init__(self, *script: Any) -> None:
        super().__init__(*script)
        self.called: list[str] = []

    async def embed(self, texts: Any, **options: Any) -> EmbeddingResult:
        self.called.append("embed")
        return EmbeddingResult(((1.0,),), model="m")

    async def list_models(self) -> list[str]:
        self.called.append("list_models")
        return ["a"]

    async def probe(self) -> Probe:
        self.called.append("probe")
        return Probe(False, "no")

    def check_access(self) -> None:
        self.called.append("check_access")

    def wire_payload(self, request: Request) -> dict[str, Any]:
        self.called.append("wire_payload")
        return {"a": 1}

    async def aclose(self) -> None:
        self.called.append("aclose")

    async def generate_image(self, messages: Any, **options: Any) -> Any:
        self.called.append("generate_image")
        return options

    async def generate_video(self, request: Any) -> Any:
        self.called.append("generate_video")
        return request


class Passing(WrappedBackend):
    async def run(self, request: Request) -> AsyncIterator[Event]:
        async with open_stream(self.backend, request) as stream:
            async for event in stream:
                yield event


class TestForwarding(BackendContract):
    def make_backend(self) -> WrappedBackend:
        return WrappedBackend(ScriptedBackend(reply, usage=Usage(5, 3)))

    def assert_idle(self, backend: Any) -> None:
        backend.backend.assert_closed()


class TestAnOverride(TestForwarding):
    def make_backend(self) -> WrappedBackend:
        return Passing(ScriptedBackend(reply, usage=Usage(5, 3)))


async def test_everything_is_forwarded() -> None:
    inner = Told("x")
    wrapped = WrappedBackend(inner, model_options={"seed": 1})
    assert (wrapped.name, wrapped.model_id, wrapped.capabilities) == (inner.name, inner.model_id, inner.capabilities)
    assert wrapped.model_options == {"seed": 1}
    request = Request((user_message("x"),))
    await wrapped.embed(["x"])
    await wrapped.list_models()
    assert not await wrapped.probe()
    wrapped.check_access()
    assert wrapped.wire_payload(request) == {"a": 1}
    assert await wrapped.generate_image([], n=2, options={"a": 1}) == {
        "n": 2,
        "aspect_ratio": None,
        "options": {"a": 1},
    }
    assert await wrapped.generate_video(asked := VideoRequest(seconds=3)) is asked
    await wrapped.aclose()
    public = {name for name, value in vars(Backend).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert set(inner.called) | {"run", "generate_from_context"} == public, "a new method of Backend is forwarded, too"


async def test_leaving_closes_what_is_inside() -> None:
    inner = ScriptedBackend(["a", Pause(60)])
    m = mellea.start_session(Shouting(inner))
    with anyio.move_on_after(0.1):
        await m.ainstruct("x")
    inner.assert_closed()
    assert (await mellea.start_session(Shouting(ScriptedBackend("loud"))).ainstruct("x")).value == "LOUD"


async def test_a_chain_is_reachable_if_one_of_it_is() -> None:
    class Down(ScriptedBackend):
        async def probe(self) -> Probe:
            return Probe(False, "down")

    up = ScriptedBackend("x")
    assert await FallbackBackend([Down("x"), up]).probe()
    assert (await FallbackBackend([Down("x"), Told("x")]).probe()).reason == "down"
    assert await FallbackBackend([up, up]).list_models() == [f"{up.name}/{up.model_id}"] * 2


async def test_a_chain_may_hold_what_is_wrapped() -> None:
    first = WrappedBackend(ScriptedBackend([ConnectError("down")]))
    m = mellea.start_session(FallbackBackend([first, Shouting(ScriptedBackend("loud"))]))
    assert (await m.ainstruct("x")).value == "LOUD"


def test_something_else_is_refused() -> None:
    with pytest.raises(UsageError, match="WrappedBackend takes a backend, not 'openai/x'"):
        WrappedBackend("openai/x")  # type: ignore[arg-type]
