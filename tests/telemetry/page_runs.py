"""Runs to draw: realistic ones with scripted models, and made-up spans for what no program would do in a test."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import anyio

import mellea
from mellea.core import ToolCall
from mellea.core.backend import Request
from mellea.core.events import Event, ReasoningDelta, TextDelta, ToolEnd, Usage, UsageEvent
from mellea.core.observer import Observer, Span
from mellea.core.span_data import describe_span
from mellea.errors import RateLimitError
from mellea.stdlib.requirements import req, simple_validate
from mellea.stdlib.sampling import RepairTemplateStrategy
from mellea.testing import Pause, ScriptedBackend
from mellea.tools import Limits


class Model(ScriptedBackend):
    """A scripted model under the name of one that has a price."""

    def __init__(self, *replies: Any, provider: str = "openai", model: str = "gpt-5-mini", **options: Any) -> None:
        super().__init__(*replies, **options)
        self.name, self.model_id = provider, model


@dataclass
class Pace:
    """How fast scripted models write.

    Args:
        factor: 1 for the speed of a real model, 0 for no time at all.
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        self._random = random.Random(7)

    def pause(self, seconds: float) -> Pause:
        return Pause(seconds * self.factor * self._random.uniform(0.6, 1.4))

    def write(self, text: str, *, wait: float = 0.25, usage: Usage | None = None, end: Sequence[Any] = ()) -> list[Any]:
        """Return the script of an answer that comes word by word, with a rest behind each sentence."""
        steps: list[Any] = [self.pause(wait)]
        for number, word in enumerate(text.split(" ")):
            steps.append(f" {word}" if number else word)
            if self.factor:
                steps.append(self.pause(0.09 if word.endswith((".", ":")) else 0.012))
        counted = usage or Usage(120 + len(text) // 3, len(text) // 4, cached_tokens=64)
        return [*steps, *end, UsageEvent(counted)]

    async def rest(self, seconds: float) -> None:
        await anyio.sleep(seconds * self.factor)


class Arrivals(Observer):
    """Collects the spans of a block, and when their text came: what a record has of them."""

    wants_events = True

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.chunks: dict[int, list[list[float]]] = {}

    def begin(self, span: Span) -> None:
        self.spans.append(span)

    def event(self, span: Span, events: Sequence[Event]) -> None:
        length = sum(len(event.chunk) for event in events if isinstance(event, TextDelta))
        if length:
            self.chunks.setdefault(span.id, []).append([round(span.seconds * 1000), length])

    def data(self, *, content: bool = True) -> list[dict[str, Any]]:
        found = [describe_span(span, content=content) for span in self.spans]
        for data in found:
            if content and data["id"] in self.chunks:
                data["chunks"] = self.chunks[data["id"]]
        return found


DRAFTS = (
    "Bergen is a city in Norway. It has about 290,000 inhabitants and lies on the coast. It is known for its rain, its "
    "harbour, its fish market, the funicular, the music of Grieg, and for the wooden houses of the Hanseatic merchants "
    "which burnt down in 1702 and were built again just as they had been before.",
    "Bergen lies between seven mountains and the sea. Take the funicular up Fløyen in the morning, walk down through "
    "the woods, and eat at the fish market.",
    "Bergen lies between seven mountains and the sea. Pack a raincoat: it rains on 240 days a year. Take the funicular "
    "up Fløyen in the morning, walk down through the woods, and eat at the fish market.",
)


async def write_guide(pace: Pace) -> str:
    """A strategy whose first two attempts are rejected."""
    model = Model(*[pace.write(draft) for draft in DRAFTS])

    def is_short(text: str) -> tuple[bool, str]:
        return len(text) < 200, "" if len(text) < 200 else f"it has {len(text)} characters, and 200 are allowed"

    def is_ready_for_rain(text: str) -> tuple[bool, str]:
        return "raincoat" in text, "" if "raincoat" in text else "it doesn't mention a raincoat"

    answer = await mellea.start_session(model).ainstruct(
        "Write three sentences on Bergen for a weekend guide.",
        name="write_guide",
        requirements=[
            req("At most 200 characters.", validation_fn=simple_validate(is_short)),
            req("Say what to pack for the rain.", validation_fn=simple_validate(is_ready_for_rain)),
        ],
        strategy=RepairTemplateStrategy(loop_budget=3),
    )
    return str(answer)


@dataclass
class Trip:
    train: str
    hotel: str
    price: int


async def book(pace: Pace) -> Any:
    """A typed agent with tools that run at the same time, and an agent among them."""

    async def find_trains(day: str) -> str:
        """Find trains to Bergen.

        Args:
            day: such as "Friday".
        """
        await pace.rest(0.5)
        return f"{day} 06:25 → 13:03, 899 kr; {day} 12:03 → 18:50, 749 kr"

    async def find_hotels(nights: int, api_key: str = "") -> list[dict[str, Any]]:
        """Find hotels.

        Args:
            nights: how many.
            api_key: of the customer.
        """
        await pace.rest(0.8)
        return [{"name": "Hotel Fløyen", "price": 1450 * nights}, {"name": "Bryggen Rooms", "price": 1190 * nights}]

    def check_card(number: str) -> str:
        """Check a card."""
        raise ValueError(f"the card {number!r} has expired")

    critic = mellea.Agent(
        Model(pace.write("Take the later train: it is cheaper, and you arrive for dinner."), model="gpt-5"),
        name="critic",
        instructions="You know what travellers regret.",
    )
    calls = [
        ToolEnd(ToolCall("c1", "find_trains", {"day": "Friday"})),
        ToolEnd(ToolCall("c2", "find_hotels", {"nights": 2, "api_key": "sk-secret-of-a-customer"})),
    ]
    asks = [
        ToolEnd(ToolCall("c3", "critic", {"task": "06:25 for 899 kr, or 12:03 for 749 kr?"})),
        ToolEnd(ToolCall("c4", "check_card", {"number": "4000-0000"})),
    ]
    model = Model(
        [ReasoningDelta("A train and a hotel: both can be looked up at once."), *pace.write("I'll look.", end=calls)],
        pace.write("Let me get a second opinion.", end=asks),
        pace.write('{"train": "Friday 12:03", "hotel": "Bryggen Rooms", "price": 3129}'),
    )  # fmt: skip
    agent = mellea.Agent(
        model, [find_trains, find_hotels, check_card, critic], output=Trip, name="booker", limits=Limits(steps=6),
        instructions="You book trips. Ask the critic before you decide.",
    )  # fmt: skip
    return (await agent.arun("Book a weekend in Bergen, from Friday, for two nights.")).output


async def tell_story(pace: Pace) -> str:
    """A call that is made of three thunks that are still being written."""
    texts = ("a harbour in the rain", "a lost umbrella", "an old baker", "Under the rain the baker found an umbrella.")
    m = mellea.start_session(Model(*[pace.write(text, wait=0.4) for text in texts], model="gpt-5-nano"))
    parts = {
        part: await m.ainstruct(f"Invent a {part} in a few words.", name=part, await_result=False)
        for part in ("place", "object", "person")
    }
    story = await m.ainstruct(
        "Tell a story in one sentence about {{place}}, {{object}} and {{person}}.",
        name="story", user_variables=dict(parts), await_result=False,
    )  # fmt: skip
    return str(await story)


async def gather_thirty(pace: Pace) -> None:
    """Thirty calls at the same time, each of another length."""

    def reply(request: Request) -> list[Any]:
        return pace.write("Rain. " * pace._random.randint(2, 30), wait=pace._random.uniform(0.1, 1.2))

    m = mellea.start_session(Model(reply, model="claude-haiku-4-5", provider="anthropic"))
    thunks = [
        await m.ainstruct(f"Describe street {number}.", name=f"street {number}", await_result=False)
        for number in range(1, 31)
    ]
    await mellea.gather(*thunks)


async def fail(pace: Pace) -> None:
    """A call that fails after half a sentence."""
    error = RateLimitError("openai: too many requests; try again in 20 s", backend="openai", status=429)
    model = Model([pace.pause(0.2), "The weather on", pace.pause(0.1), error])
    with suppress(RateLimitError):
        await mellea.start_session(model).ainstruct("What will the weather be?", name="forecast", strategy=None)


async def leave(pace: Pace) -> None:
    """A stream whose reader leaves."""
    m = mellea.start_session(Model([*pace.write(" ".join(DRAFTS))[:30], Pause(math.inf)]))
    stream = m.astream("Tell me everything about Bergen.", name="everything")
    text = ""
    async for chunk in stream:
        text += chunk
        if len(text) > 50:
            break
    await stream.aclose()


async def plan_weekend(pace: Pace) -> list[dict[str, Any]]:
    """Everything above in one run."""
    arrivals = Arrivals()

    @mellea.trace(name="plan_weekend")
    async def plan() -> None:
        await write_guide(pace)
        await tell_story(pace)
        await book(pace)
        await fail(pace)
        await leave(pace)

    with mellea.observe(arrivals):
        await plan()
    return arrivals.data()


def make_spans(count: int) -> list[dict[str, Any]]:
    """Return spans of a run of many calls, each with an attempt, a check and a request."""
    return list(_make_spans(count))


def _make_spans(count: int) -> Iterator[dict[str, Any]]:
    began = 1_790_000_000.0
    chance = random.Random(3)
    lasts = count * 0.02
    yield {"id": 1, "kind": "trace", "name": "many rows", "started": began, "is_request": False, "status": "ok",
           "seconds": lasts}  # fmt: skip
    for number in range(2, count + 1, 4):
        start, length = began + chance.uniform(0, lasts - 3), chance.uniform(0.3, 2.5)
        text, name = f"The answer to row {number} is {chance.randint(1, 10**6)}.", f"row {number}"
        shared = {"status": "ok", "started": start, "seconds": length}
        yield {"id": number, "parent": 1, "kind": "call", "name": name, "is_request": False, **shared}
        is_accepted = chance.random() > 0.1
        yield {"id": number + 1, "parent": number, "kind": "attempt", "name": "attempt 1", "number": 1,
               "is_request": False, "is_accepted": is_accepted, **shared}  # fmt: skip
        yield {
            "id": number + 2, "parent": number + 1, "kind": "call", "name": name, "is_request": True, **shared,
            "provider": "openai", "model": "gpt-5-mini", "time_to_first_chunk": length / 3, "chunk_count": 9,
            "input_tokens": chance.randint(100, 900), "output_tokens": chance.randint(5, 90), "cost": 0.0001,
            "finish_reason": "stop",
            "messages": [{"role": "user", "parts": [{"type": "text", "content": f"What is in row {number}?"}]}],
            "answer": {"role": "assistant", "parts": [{"type": "text", "content": text}], "finish_reason": "stop"},
        }  # fmt: skip
        yield {"id": number + 3, "parent": number + 1, "kind": "check", "name": "check", "check": "is_number",
               "is_request": False, "is_met": is_accepted, **shared, "started": start + length, "seconds": 0.001,
               "requirement": "It is a number.", "reason": "ok" if is_accepted else "it is too large"}  # fmt: skip
