"""One field of an answer changed: beside the point, it changes nothing; an essential one is a typed error, never a
wrong value.

The streams are the project's own and, where they are present, recordings of the providers.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from mellea.backends._transport.decoding import WireDecoder
from mellea.backends.anthropic.decode import Decoder as AnthropicDecoder
from mellea.backends.gemini.decode import Decoder as GeminiDecoder
from mellea.backends.ollama.decode import Decoder as OllamaDecoder
from mellea.errors import InterruptedStreamError
from tests.backends.anthropic import answers as anthropic
from tests.backends.gemini import answers as gemini
from tests.backends.ollama import answers as ollama
from tests.backends.recorded import Exchange, Outcome, exchanges, outcome

CHANGES = 150
"""How many of each kind are tried on each stream."""

OTHERS: dict[type, list[Any]] = {
    str: [5, True, ["x"], {"x": 1}],
    int: ["x", ["x"], {"x": 1}, 1.5],
    float: ["x", ["x"]],
    bool: ["x", 5, ["x"]],
    list: [5, True],
    dict: [5, True, ["x"]],
    type(None): [5, "x"],
}
"""Values of another type, by the type that stands there."""

NEVER = {"args", "input", "arguments", "result", "response", "content_block.content"}
"""What these hold is the model's or the user's; nothing in it is the protocol's."""


@dataclass(frozen=True)
class Wire:
    """How one provider frames its JSON, and which of its fields are beside the point, whatever holds them."""

    decoder: Callable[[], WireDecoder]
    beside: frozenset[str]
    streams: Callable[[], list[bytes]]
    frame: str = "data: {}\n\n"


def recorded(dialect: str) -> list[bytes]:
    found = [param.values[0] for param in exchanges(dialect)]
    return [each.body for each in found if isinstance(each, Exchange) and "spliced" not in each.name][:6]


WIRES = {
    "anthropic": Wire(
        lambda: AnthropicDecoder("m"),
        frozenset({"usage", "model", "citation", "citations", "container", "stop_sequence", "signature", "role"}),
        lambda: [anthropic.EVERYTHING, anthropic.INTERLEAVED, *recorded("anthropic")],
    ),
    "gemini": Wire(
        lambda: GeminiDecoder("m"),
        frozenset(
            {
                "usageMetadata",
                "modelVersion",
                "responseId",
                "groundingMetadata",
                "citationMetadata",
                "safetyRatings",
                "thoughtSignature",
                "role",
            }
        ),
        lambda: [gemini.HELLO, gemini.THINKING, gemini.CALLS, gemini.STREAMED_CALL, gemini.SEARCH, *recorded("gemini")],
    ),
    "ollama": Wire(
        lambda: OllamaDecoder("m"),
        frozenset(
            {"model", "created_at", "total_duration", "eval_count", "prompt_eval_count", "eval_duration", "role"}
        ),
        lambda: list(ollama.ALL.values()),
        "{}\n",
    ),
}


def frames_of(body: bytes) -> list[Any]:
    lines = [line.removeprefix("data:").strip() for line in body.decode().splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        if key not in NEVER:
            yield (*path, key)
            yield from places(value[key], (*path, key))


def changed(frames: list[Any], path: tuple[Any, ...], value: Any) -> list[Any]:
    frames = copy.deepcopy(frames)
    holder: Any = frames
    for key in path[:-1]:
        holder = holder[key]
    if value is ...:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return frames


def at(frames: list[Any], path: tuple[Any, ...]) -> Any:
    value: Any = frames
    for key in path:
        value = value[key]
    return value


def answer(result: Outcome) -> Any:
    """The text, the calls and why it ended; ids are made up where they are missing."""
    calls = [(call.tool_name, call.is_valid, call.tool_args) for call in result.generation.tool_calls]
    return result.text, calls, result.generation.finish_reason


def decode(wire: Wire, frames: list[Any]) -> Outcome:
    return outcome(wire.decoder(), "".join(wire.frame.format(json.dumps(each)) for each in frames).encode())


def streams() -> Iterator[Any]:
    for name, wire in WIRES.items():
        for number, body in enumerate(wire.streams()):
            yield pytest.param(wire, frames_of(body), id=f"{name}-{number}")


@pytest.mark.parametrize(("wire", "frames"), [*streams()])
def test_what_is_beside_the_point_changes_nothing(wire: Wire, frames: list[Any]) -> None:
    whole, rng = answer(decode(wire, frames)), random.Random(1)
    beside = [path for path in places(frames) if wire.beside & set(path)]
    for path in rng.sample(beside, min(CHANGES, len(beside))):
        for value in (None, ..., rng.choice(OTHERS[type(at(frames, path))])):
            if value is ... and isinstance(path[-1], int):
                continue
            result = decode(wire, changed(frames, path, value))
            assert result.error is None, (path, value, result.error)
            assert answer(result) == whole, (path, value)


@pytest.mark.parametrize(("wire", "frames"), [*streams()])
def test_an_essential_word_of_another_type_is_never_a_wrong_value(wire: Wire, frames: list[Any]) -> None:
    text, calls, finish = answer(decode(wire, frames))
    essential, rng = (
        [path for path in places(frames) if len(path) > 1 and not wire.beside & set(path)],
        random.Random(2),
    )
    for path in rng.sample(essential, min(CHANGES, len(essential))):
        value = rng.choice(OTHERS[type(at(frames, path))])
        result = decode(wire, changed(frames, path, value))
        if result.error is not None:
            assert not isinstance(result.error, InterruptedStreamError) or text.startswith(result.text), (path, value)
            continue
        said, made, reason = answer(result)
        assert (said, reason) == (text, finish), (path, value)
        assert len(made) == len(calls) and all(each in calls or not each[1] for each in made), (path, value, made)
