"""The checks of a decoder accept a correct one, whatever its line ends."""

import pytest

from mellea.backends.http import SseWireDecoder, read_text
from mellea.core.events import Event, StreamEnd, TextDelta
from tests.backends.recorded import Exchange, check_cuts, check_splits


class NamedEvents(SseWireDecoder):
    """Reads what an event is from its event line."""

    def __init__(self) -> None:
        super().__init__(backend="named")

    def read_chunk(self, chunk: dict[str, object], events: list[Event]) -> None:
        if chunk["type"] == "bit":
            events.append(TextDelta(read_text(chunk, "say")))
        else:
            events.append(StreamEnd("stop"))


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=repr)
@pytest.mark.parametrize("mark", [b"event: fin", b'"over"'])
def test_a_cut_between_the_lines_of_the_last_event_is_a_cut(end: bytes, mark: bytes) -> None:
    lines = (b"event: bit", b'data: {"say": "Hoot"}', b"", b"event: fin", b'data: {"why": "over"}', b"", b"")
    exchange = Exchange("named", end.join(lines))
    assert check_splits(NamedEvents, exchange).text == "Hoot"
    check_cuts(NamedEvents, exchange, end=mark)
