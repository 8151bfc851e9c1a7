"""Partial objects out of what real providers sent: structured output, and the JSON arguments of tool calls."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from mellea.backends.anthropic.decode import Decoder as AnthropicDecoder
from mellea.backends.gemini.decode import Decoder as GeminiDecoder
from mellea.backends.openai.chat.decode import Decoder as ChatDecoder
from mellea.backends.openai.responses.decode import Decoder as ResponsesDecoder
from mellea.core.events import TextDelta, ToolDelta
from mellea.core.structured import make_output_format
from mellea.core.structured.items import ItemDecoder, make_item_format
from mellea.core.structured.partials import PartialDecoder
from tests.backends.recorded import Exchange, exchanges, outcome
from tests.core.structured.test_partials import grows

DECODERS: dict[str, Any] = {
    "anthropic": lambda: AnthropicDecoder("claude-test"),
    "gemini": lambda: GeminiDecoder("gemini-test"),
    "openai_chat": ChatDecoder,
    "openai_responses": ResponsesDecoder,
}
OWN = [
    ['{"', 'city": "Mexi', "co", ' City",\n  "country', '": "M\\u00e9', 'xico"', "\n} "],
    [
        "```json\n",
        '{"characters": [',
        '{"name": "Theron',
        ' Iron", "level": 1',
        "2}, ",
        '{"name": "\\ud83d',
        '\\ude00"}',
        "]}",
        "\n```",
    ],
    ['{"a": tr', "ue, ", '"b": -1', "2.5e", '3, "c": nu', 'll, "d": [[], {}', "]}"],
]


def documents(exchange: Exchange) -> Iterator[list[str]]:
    """Find what the model wrote as JSON objects: each one as the pieces in which it came."""
    found: dict[str, list[str]] = defaultdict(list)
    for event in outcome(DECODERS[exchange.dialect](), exchange.body).events:
        if isinstance(event, TextDelta):
            found["text"].append(event.chunk)
        elif isinstance(event, ToolDelta):
            found[event.tool_call_id].append(event.chunk)
    for pieces in found.values():
        try:
            value = json.loads("".join(pieces))
        except ValueError:
            continue
        if isinstance(value, dict):
            yield pieces


def check(pieces: list[str], value: Any) -> None:
    for parts in (pieces, "".join(pieces)):
        decoder: PartialDecoder[Any] = PartialDecoder(make_output_format(dict[str, Any]))
        last: Any = None
        for part in parts:
            decoder.feed(part)
            while (partial := decoder.next()) is not None:
                assert grows(last, partial.data)
                last = partial.snapshot()
        assert last == value
        assert decoder.is_complete


@pytest.mark.parametrize("dialect", DECODERS)
def test_recorded_json_grows_and_ends_in_the_final_object(dialect: str) -> None:
    recorded = [each.values[0] for each in exchanges(dialect)]
    if recorded == [None]:
        pytest.skip("no recordings; MELLEA_FIXTURES says where they are")
    found = [pieces for exchange in recorded for pieces in documents(exchange)]  # type: ignore[arg-type]
    assert found
    for pieces in found:
        check(pieces, json.loads("".join(pieces)))


@pytest.mark.parametrize("pieces", OWN, ids=["object", "in a fence", "all kinds"])
def test_json_in_pieces_grows_and_ends_in_the_final_object(pieces: list[str]) -> None:
    check(pieces, json.loads("".join(pieces).removeprefix("```json").removesuffix("```")))


def test_items_of_a_recorded_list_come_one_by_one() -> None:
    recorded = [each.values[0] for each in exchanges("anthropic") if "json-output" in (each.id or "")]
    if not recorded:
        pytest.skip("no recordings; MELLEA_FIXTURES says where they are")
    pieces = next(documents(recorded[0]))  # type: ignore[arg-type]
    schema = {"type": "object", "properties": {"characters": {"type": "array"}}}
    decoder = ItemDecoder(make_item_format(make_output_format(schema)))
    came: list[tuple[int, Any]] = []
    for number, piece in enumerate(pieces):
        decoder.feed(piece)
        while decoder.has_more:
            came.append((number, decoder.next()))
    assert [item for _, item in came] == json.loads("".join(pieces))["characters"]
    assert len({number for number, _ in came}) == len(came) > 1, "each with a piece of its own"
