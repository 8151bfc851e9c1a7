"""What closing and resetting a session cancels: everything that was launched through it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import mellea
from mellea.core.backend import Capabilities
from mellea.errors import GenerationCancelledError, MelleaError
from mellea.stdlib.requirements import check, req
from mellea.testing import Pause, ScriptedBackend
from mellea.testing.scripted import EVERYTHING

pytestmark = pytest.mark.anyio

FOREVER = Pause(float("inf"))


class Slow(ScriptedBackend):
    """Never makes an image, a video or an embedding."""

    asked = 0
    stopped = 0

    async def generate_image(self, *args: Any, **options: Any) -> Any:
        return await self._forever()

    async def generate_video(self, request: Any) -> Any:
        return await self._forever()

    async def embed(self, texts: Any) -> Any:
        return await self._forever()

    async def _forever(self) -> None:
        self.asked += 1
        try:
            await anyio.sleep_forever()
        finally:
            self.stopped += 1


VERBS: dict[str, Callable[[mellea.MelleaSession], Awaitable[Any]]] = {
    "instruct": lambda m: m.ainstruct("x"),
    "a strategy": lambda m: m.ainstruct("x", requirements=[req("is good")]),
    "a judge": lambda m: m.avalidate([check("is good")]),
    "an image": lambda m: m.agenerate_image("a cat"),
    "a video": lambda m: m.agenerate_video("a cat"),
    "an embedding": lambda m: m.aembed("x"),
}


@pytest.mark.parametrize("what", VERBS)
@pytest.mark.parametrize("how", ["reset", "close"])
async def test_closing_or_resetting_a_session_cancels(what: str, how: str) -> None:
    backend = Slow("said", FOREVER) if what == "a judge" else Slow(FOREVER)
    m = mellea.start_session(backend)
    said = await m.ainstruct("say something") if what == "a judge" else None
    before = len(backend.requests)

    async def act() -> None:
        with pytest.raises(GenerationCancelledError):
            await VERBS[what](m)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(act)
            while len(backend.requests) == before and not backend.asked:
                await anyio.sleep(0)
            if how == "reset":
                m.reset()
            else:
                await m.aclose()
    assert all(backend.closed) and backend.asked == backend.stopped
    assert said is None or said.is_computed()


async def test_what_a_tool_asks_of_another_session_is_cancelled_with_that_one() -> None:
    inner = mellea.start_session(ScriptedBackend(FOREVER))

    async def look() -> str:
        """Look."""
        try:
            return str(await inner.ainstruct("x"))
        except GenerationCancelledError:
            return "it was closed"

    from mellea.core import ToolCall
    from mellea.core.events import ToolEnd

    m = mellea.start_session(ScriptedBackend([ToolEnd(ToolCall("c1", "look", {}))], ["done"]))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: m.ainstruct("x", tools=[look], tool_calls="run"))
            while not inner.backend.requests:  # type: ignore[attr-defined]
                await anyio.sleep(0)
            inner.reset()
    assert m.backend.requests[1].messages[-1].blocks[0].result == "it was closed"  # type: ignore[attr-defined]


async def test_a_request_for_an_image_that_fails_says_so_once() -> None:
    backend = ScriptedBackend("x", capabilities=Capabilities(options=EVERYTHING.options))
    with pytest.raises(MelleaError, match="doesn't support image generation"):
        await mellea.start_session(backend).agenerate_image("a cat")
