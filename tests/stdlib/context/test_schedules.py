"""Chat contexts under any schedule: turns begin, end, fail, are cancelled and pinned in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mellea
from mellea.core import ModelOutputThunk, Request
from mellea.errors import MelleaError
from mellea.stdlib.context import ChatContext, WindowCompactor
from mellea.testing import Gate, ScriptedBackend
from tests.soak import examples

STEPS = st.lists(
    st.tuples(st.sampled_from(["say", "say", "end", "end", "cancel", "pin", "look"]), st.integers(0, 20)),
    max_size=14,
)
SETTINGS: list[dict[str, Any]] = [{}, {"window_size": 2}, {"compactor": WindowCompactor(2)}]


@dataclass(eq=False)
class Said:
    """One turn, as it ought to be."""

    word: str
    sees: list[Said]
    waits_for: list[Said]
    gate: Gate = field(default_factory=Gate)
    thunk: ModelOutputThunk[Any] | None = None
    state: str = "open"  # or done, failed
    breaks: bool = False  # once it has said something
    is_pinned: bool = False


class Schedule:
    """A conversation, and beside it what it has to be."""

    def __init__(self, **settings: Any) -> None:
        self.turns: list[Said] = []
        self.waits_for_all = "compactor" in settings
        self.limit = 2 if settings else 1000
        self.backend = ScriptedBackend(self.reply)
        self.m = mellea.start_session(self.backend, ctx=ChatContext(**settings))

    def reply(self, request: Request) -> list[Any]:
        said = next(turn for turn in self.turns if turn.word == request.messages[-1].content)
        return [said.gate, said.word.upper(), *([OSError("broken")] if said.breaks else [])]

    async def say(self, *, breaks: bool) -> None:
        sound = [turn for turn in self.turns if turn.state != "failed"]
        plain = [turn for turn in sound if not turn.is_pinned][-self.limit :]
        sees = [turn for turn in sound if turn.is_pinned or turn in plain]
        awaited = sound if self.waits_for_all else sees
        said = Said(f"word {len(self.turns)}", sees, [turn for turn in awaited if turn.state == "open"])
        said.breaks = breaks
        self.turns.append(said)
        said.thunk = await self.m.achat(said.word, await_result=False)

    async def end(self, said: Said) -> None:
        if any(turn.state == "open" for turn in said.waits_for):
            return
        said.gate.open()
        if said.breaks:
            await self.lost(said)
        else:
            assert said.thunk is not None
            await said.thunk
            said.state = "done"

    async def cancel(self, said: Said) -> None:
        assert said.thunk is not None
        await said.thunk.cancel()
        await self.lost(said)

    async def lost(self, said: Said) -> None:
        said.state = "failed"
        assert said.thunk is not None
        with pytest.raises(MelleaError):
            await said.thunk
        for turn in self.turns:
            if turn.state == "open" and said in turn.waits_for:
                await self.lost(turn)

    async def step(self, kind: str, number: int) -> None:
        open_ones = [turn for turn in self.turns if turn.state == "open"]
        if kind == "say":
            await self.say(breaks=number % 4 == 0)
        elif kind == "pin" and self.turns and self.turns[-1].state != "failed":
            self.m.ctx = self.m.ctx.pin()  # type: ignore[attr-defined]
            self.turns[-1].is_pinned = True
        elif kind == "look":
            self.look()
        elif kind == "cancel" and open_ones:
            await self.cancel(open_ones[number % len(open_ones)])
        elif kind == "end" and open_ones:
            await self.end(open_ones[number % len(open_ones)])

    def look(self) -> None:
        assert [turn.input.content for turn in self.m.ctx.turns()] == [turn.word for turn in self.turns]
        assert repr(self.m.ctx).startswith("<ChatContext")
        assert len(self.m.ctx.as_list(1)) == min(1, len(self.turns))
        sound = [turn.word for turn in self.turns if turn.state != "failed" and not turn.is_pinned]
        shown = [turn.input.content for turn in self.m.ctx.view_for_generation()]
        pinned = {turn.word for turn in self.turns if turn.is_pinned}
        if not self.waits_for_all:
            assert [word for word in shown if word not in pinned] == sound[-self.limit :]

    def check(self) -> None:
        sent = {request.messages[-1].content: request.messages[:-1] for request in self.backend.requests}
        for turn in self.turns:
            assert turn.state in ("done", "failed")
            if turn.state == "done":
                pairs = [text for other in turn.sees for text in (other.word, other.word.upper())]
                got = [message.content for message in sent[turn.word]]
                assert sorted(got) == sorted(pairs)
                assert self.waits_for_all or got == pairs  # a compactor's turns stand behind the pinned ones
        self.backend.assert_closed()


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
@pytest.mark.parametrize("chosen", SETTINGS, ids=["all", "window", "compactor"])
@settings(max_examples=examples(40), deadline=None)
@given(steps=STEPS)
def test_each_call_sees_the_turns_of_its_start_whatever_becomes_of_them(
    kind: str, chosen: dict[str, Any], steps: list[tuple[str, int]]
) -> None:
    async def main() -> None:
        schedule = Schedule(**chosen)
        with anyio.fail_after(30):
            for name, number in steps:
                await schedule.step(name, number)
            for turn in schedule.turns:
                if turn.state == "open":
                    await schedule.end(turn)
            schedule.look()
            schedule.check()
            await schedule.say(breaks=False)
            await schedule.end(schedule.turns[-1])
            schedule.check()

    anyio.run(main, backend=kind)
