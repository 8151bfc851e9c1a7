"""Replay of recorded bodies, as users' tests do it."""

import pytest

from mellea.backends.openai.chat import Decoder
from mellea.core.events import TextDelta
from mellea.errors import InterruptedStreamError, UsageError
from mellea.testing import replay

CHUNK = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n'
END = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'


def test_the_events_are_the_same_wherever_the_body_is_split() -> None:
    body = CHUNK + CHUNK + END
    whole = list(replay(Decoder(), body))
    assert whole[:2] == [TextDelta("Hi"), TextDelta("Hi")]
    assert list(replay(Decoder(), body, range(1, len(body)))) == whole == list(replay(Decoder(), body, [7, 3, 7]))


def test_events_come_before_the_error() -> None:
    events = []
    with pytest.raises(InterruptedStreamError) as caught:
        for event in replay(Decoder(), CHUNK):
            events.append(event)
    assert events == [TextDelta("Hi")] and caught.value.partial == "Hi"


@pytest.mark.parametrize("split", [-1, 10_000])
def test_a_split_outside_the_body(split: int) -> None:
    with pytest.raises(UsageError, match="offsets"):
        list(replay(Decoder(), CHUNK + END, [split]))
