"""Events that a backend hands over in lists: the same to everybody, and one wake for each list."""

import pytest

from mellea.core.backend import Backend, Batches
from mellea.core.events import KeepAlive, StreamEnd, TextDelta
from mellea.errors import BackendError, InterruptedStreamError
from mellea.stdlib.session import MelleaSession

pytestmark = pytest.mark.anyio

TEXTS = [TextDelta("a"), TextDelta("b"), TextDelta("c")]
LISTS = [[KeepAlive(is_restart=True)], TEXTS[:2], [], [KeepAlive(), TEXTS[2], StreamEnd("stop")]]


class Batched(Backend):
    name = "batched"
    model_id = "batched"

    def __init__(self, lists):
        super().__init__()
        self.lists = lists
        self.has_closed = False

    def run(self, request):
        return Batches(self._lists())

    async def _lists(self):
        try:
            for batch in self.lists:
                yield batch
        finally:
            self.has_closed = True


async def test_events_come_one_by_one_and_in_order():
    assert [event async for event in Batched(LISTS).run(None)] == [event for batch in LISTS for event in batch]


async def test_closing_ends_the_generator_and_drops_what_was_taken():
    backend = Batched(LISTS)
    events = backend.run(None)
    await anext(events)
    assert await anext(events) == TextDelta("a")
    await events.aclose()
    assert backend.has_closed
    assert [event async for event in events] == []


async def test_a_run_takes_lists_whole():
    backend = Batched(LISTS)
    async with MelleaSession(backend) as m:
        thunk = await m.ainstruct("x", await_result=False)
        assert [event async for event in thunk.events()] == [*TEXTS, StreamEnd("stop")]
        assert thunk.value == "abc"
        assert thunk.time_to_first_token is not None
    assert backend.has_closed


async def test_a_reader_gets_the_text_of_a_list_at_once():
    async with MelleaSession(Batched(LISTS)) as m:
        thunk = await m.ainstruct("x", await_result=False)
        assert await anext(aiter(thunk)) in ("ab", "abc")


async def test_what_comes_before_nonsense_in_a_list_is_kept():
    async with MelleaSession(Batched([[TextDelta("a"), "b", TextDelta("c")]])) as m:
        with pytest.raises(BackendError, match="it yielded 'b', which is not an event") as caught:
            await m.ainstruct("x")
    assert caught.value.partial == "a"


async def test_lists_without_an_end_were_interrupted():
    async with MelleaSession(Batched([TEXTS])) as m:
        with pytest.raises(InterruptedStreamError) as caught:
            await m.ainstruct("x")
    assert caught.value.partial == "abc"
