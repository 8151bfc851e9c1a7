"""The figures of typed streams: items and partial objects, against a final parse and against re-parsing at each delta.

The document is a list of people, in deltas of 20 characters. Items are validated dataclasses; of partial objects
path and text are read, as a user interface does that types into cells.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import median
from time import process_time
from typing import Any

from pydantic_core import from_json

from benchmarks.pairs import Samples, Setting, interleave, on_loop
from mellea import MelleaSession
from mellea.core.events import TextDelta
from mellea.testing import Pause, ScriptedBackend

DELTA = 20
BURST = 20


@dataclass
class Person:
    name: str
    age: int
    notes: str
    tags: list[str]


@cache
def people_format() -> Any:
    from mellea.core.structured import make_output_format  # lazy: another checkout may have another name for it

    return make_output_format(list[Person])


@cache
def person_format() -> Any:
    from mellea.core.structured.items import make_item_format  # lazy: as above

    return make_item_format(people_format())


Read = Callable[[list[str]], int]
"""Reads deltas, and returns how many people there were."""


def document(size: int) -> list[str]:
    """Make the deltas of a list of people that has about so many characters."""
    person = {"age": 34, "notes": 'Plays the viola; "knows" Čapek\'s robots by heart.', "tags": ["music", "books"]}
    texts = [json.dumps({"name": f"Person {number}", **person}) for number in range(max(1, size // 144))]
    text = f"[{', '.join(texts)}]"
    return [text[at : at + DELTA] for at in range(0, len(text), DELTA)]


def items(deltas: list[str]) -> int:
    from mellea.core.structured.items import ItemDecoder  # lazy: as above

    decoder = ItemDecoder(person_format())
    for delta in deltas:
        decoder.feed(delta)
        while decoder.has_more:
            decoder.next()
    return len(decoder.good)


def partials(deltas: list[str]) -> int:
    from mellea.core.structured.partials import PartialDecoder  # lazy: as above

    decoder: PartialDecoder[Any] = PartialDecoder(people_format())
    for delta in deltas:
        decoder.feed(delta)
        while (partial := decoder.next()) is not None:
            partial.path, partial.text  # noqa: B018 - what a reader looks at
    return len(decoder.data())


def final_parse(deltas: list[str]) -> int:
    return len(people_format().validate("".join(deltas)))


def parse_each_time(deltas: list[str]) -> int:
    text, found = "", []
    for delta in deltas:
        text += delta
        found = from_json(text, allow_partial="trailing-strings")
    return len(found)


def against(floor: Read, ours: Read, size: int) -> Callable[[Setting], Samples]:
    """Milliseconds for a document of so many characters."""

    def measure(setting: Setting) -> Samples:
        deltas = document(min(size, setting.size(size, 10_000)))
        times = max(1, 20_000 // (len(deltas) * DELTA))  # a short one is read several times

        def seconds(read: Read) -> float:
            before = process_time()
            found = {read(deltas) for _ in range(times)}
            after = process_time()
            assert found == {len(json.loads("".join(deltas)))}, "people are missing"
            return (after - before) / times

        pairs = min(setting.pairs, 5) if size > 1_000_000 else setting.pairs
        return interleave(lambda: seconds(floor), lambda: seconds(ours), pairs).times(1e3)

    return measure


def items_of(size: int) -> Callable[[Setting], Samples]:
    return against(final_parse, items, size)


def partials_of(size: int) -> Callable[[Setting], Samples]:
    return against(final_parse, partials, size)


def instead_of_parsing(size: int) -> Callable[[Setting], Samples]:
    return against(parse_each_time, partials, size)


async def by_items(session: MelleaSession) -> int:
    thunk = await session.ainstruct("List people.", format=list[Person], await_result=False)
    return len([person async for person in thunk.items()])


async def by_partials(session: MelleaSession) -> int:
    thunk = await session.ainstruct("List people.", format=list[Person], await_result=False)
    found = ""
    async for partial in thunk.partials():
        found = partial.path if partial.path.endswith("]") else found
    return len(thunk.parsed or ())


def growth(read: Callable[[MelleaSession], Any]) -> Callable[[Setting], Samples]:
    """Microseconds for each delta of 1,000 and of 200,000 of a thunk, without what a stream of a few deltas costs."""

    def measure(setting: Setting) -> Samples:
        sizes = (8, setting.size(1000, 300), setting.size(200_000, 5000))
        played = [_session(document(size * DELTA)) for size in sizes]

        async def cost(number: int, times: int) -> float:
            session, count = played[number]
            found: list[float] = []
            for _ in range(times):
                before = process_time()
                assert await read(session), "nobody was read"
                found.append(process_time() - before)
            return median(found) / count

        async def base() -> float:
            return await cost(0, 15) * played[0][1]

        async def by_few() -> float:
            return await cost(1, 15) - await base() / played[1][1]

        async def by_many() -> float:
            return await cost(2, 1) - await base() / played[2][1]

        with asyncio.Runner() as runner:
            pairs = min(setting.pairs, 7)
            return interleave(on_loop(runner, by_few), on_loop(runner, by_many), pairs).times(1e6)

    return measure


def _session(deltas: list[str]) -> tuple[MelleaSession, int]:
    steps: list[Any] = []
    for number, delta in enumerate(deltas):
        if number % BURST == 0:
            steps.append(Pause(0))
        steps.append(TextDelta(delta))
    return MelleaSession(ScriptedBackend(steps)), len(deltas)
