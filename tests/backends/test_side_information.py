"""One field of an answer is changed, on every wire: what is beside the point never fails the answer.

Own and recorded streams are taken, and in one frame one field becomes null, another type, or nothing. If the field is
beside the point the answer stays the same: its text, its calls, and why it ended. If it is essential the outcome is the
same answer or a typed error, never another answer; null and nothing say less, but nothing else. What is essential
stands in one table for each wire. 1,000 changes in CI, 100,000 under `scripts/soak`.
"""

from __future__ import annotations

import copy
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from mellea.backends.anthropic.decode import Decoder as Anthropic
from mellea.backends.gemini.decode import Decoder as Gemini
from mellea.backends.http.codec import Decoder
from mellea.backends.ollama.decode import Decoder as Ollama
from mellea.backends.openai.chat import Decoder as Chat
from mellea.backends.openai.responses import Decoder as Responses
from tests.backends.anthropic import answers as anthropic
from tests.backends.gemini import answers as gemini
from tests.backends.ollama import answers as ollama
from tests.backends.openai import answers as openai
from tests.backends.recorded import Outcome, exchanges, outcome
from tests.soak import examples

CHANGES = examples(1_000)
LONGEST = 40_000  # bytes of a stream

Path = tuple[Any, ...]

GONE = object()
_ARGUMENTS = ("args", "arguments", "input", "partialArgs")
OTHERS: list[Any] = [5, 1.5, True, "x", ["x"], {"a": 1}]


@dataclass(frozen=True)
class Wire:
    """A wire's streams, and what is essential in them.

    Attributes:
        essential: matches the path of a field, such as `choices.0.delta.content`.
        also_as: matches the paths of fields that may have another type, and which one.
    """

    name: str
    make: Callable[[], Decoder]
    bodies: dict[str, bytes]
    folder: str | None
    essential: str
    also_as: dict[str, type]
    is_lines: bool = False

    def streams(self) -> dict[str, bytes]:
        found = dict(self.bodies)
        for parameter in exchanges(self.folder) if self.folder else ():
            exchange = parameter.values[0]
            if exchange is not None and len(exchange.body) <= LONGEST:
                found[exchange.name] = exchange.body
        # Snowflake has no finish reason: that the usage has come is its end, and so essential.
        return {name: body for name, body in found.items() if self._is_fit(body) and "snowflake" not in name}

    def _is_fit(self, body: bytes) -> bool:
        whole = outcome(self.make(), body)
        return whole.error is None and outcome(self.make(), _joined(self.frames(body))).key() == whole.key()

    def frames(self, body: bytes) -> list[tuple[str, Any, str]]:
        """Return the frames of a stream: what stands before the JSON, the value or a text, and what stands behind."""
        if self.is_lines:
            return [("", json.loads(line), "\n") for line in body.decode().splitlines() if line.strip()]
        return [_frame(event) for event in re.split(r"(?:\r\n|\n|\r){2}", body.decode())]


def _frame(event: str) -> tuple[str, Any, str]:
    lines = event.splitlines()
    data = "\n".join([line[5:] for line in lines if line.startswith("data:")])
    try:
        value = json.loads(data)
    except ValueError:
        return event, None, "\n\n"
    return "".join([f"{line}\n" for line in lines if not line.startswith("data:")]) + "data: ", value, "\n\n"


_CHAT_CALL = r"tool_calls(\.\d+(\.(index|function(\.(name|arguments))?))?)?"

WIRES = [
    Wire(
        "chat",
        Chat,
        openai.CHAT,
        "openai_chat",
        r"choices(\.\d+(\.(index|finish_reason|(delta|message)"
        rf"(\.(content(\.\d+(\.(type|text))?)?|refusal|{_CHAT_CALL}))?))?)?",
        {r".*\.content": list, r".*\.arguments": dict},
    ),
    Wire(
        "responses",
        Responses,
        openai.RESPONSES,
        "openai_responses",
        r"type|delta|text|refusal|arguments|input|output_index|response(\.(status|incomplete_details(\.reason)?))?"
        r"|(item|response\.output(\.\d+)?)(\.(type|status|name|arguments|input|content(\.\d+(\.(type|text|refusal))?)?))?",
        {r".*arguments": dict, "delta": dict},
    ),
    Wire(
        "anthropic",
        lambda: Anthropic("m"),
        {"hello": anthropic.HELLO, "everything": anthropic.EVERYTHING, "interleaved": anthropic.INTERLEAVED},
        "anthropic",
        r"type|index|(content_block|delta)(\.(type|text|name|input(\..*)?|partial_json|stop_reason|content(\..*)?))?"
        r"|message(\.(id|stop_reason|content(\..*)?))?",
        {r"message\.content": str, r".*\.partial_json": dict},
    ),
    Wire(
        "gemini",
        lambda: Gemini("m"),
        gemini.ALL,
        "gemini",
        r"candidates(\.\d+(\.(index|finishReason|content(\.parts(\.\d+(\.(?!thoughtSignature).*)?)?)?))?)?"
        r"|promptFeedback(\.blockReason)?",
        {r".*\.args": dict},
    ),
    Wire(
        "ollama",
        lambda: Ollama("m"),
        ollama.ALL,
        None,
        r"message(\.(content|tool_calls(\.\d+(\.function(\.(name|arguments(\..*)?))?)?)?))?|done|done_reason",
        {r".*\.arguments": str},
        is_lines=True,
    ),
]


def _joined(frames: list[tuple[str, Any, str]]) -> bytes:
    return "".join(
        head + ("" if value is None else json.dumps(value, ensure_ascii=False)) + tail for head, value, tail in frames
    ).encode()


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _paths(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _paths(item, (*path, number))


def _change(value: Any, path: Path, new: Any) -> Any:
    value = copy.deepcopy(value)
    place = value
    for name in path[:-1]:
        place = place[name]
    if new is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = new
    return value


def _at(value: Any, path: Path) -> Any:
    for name in path:
        value = value[name]
    return value


def _answer(result: Outcome) -> object:
    generation = result.generation
    calls = [(call.tool_name, call.raw_args, call.is_valid) for call in generation.tool_calls]
    return result.text, calls, generation.finish_reason


def _is_free(path: Path) -> bool:
    """Whether any value is right: inside a call's arguments, and for the flags that only tell one kind from another."""
    return path[-1] in ("thought", "incomplete_details", "reason") or any(name in _ARGUMENTS for name in path[:-1])


def _is_part(less: str, more: str) -> bool:
    """Whether a text is another one with pieces left out."""
    rest = iter(more)
    return all(char in rest for char in less)


def _check(wire: Wire, name: str, body: bytes, rng: random.Random) -> None:
    frames = wire.frames(body)
    number = rng.choice([number for number, (_, value, _) in enumerate(frames) if isinstance(value, dict)])
    head, value, tail = frames[number]
    path = rng.choice([path for path in _paths(value) if not _is_free(path)])
    dotted = ".".join(map(str, path))
    old = _at(value, path)
    allowed = next((kind for pattern, kind in wire.also_as.items() if re.fullmatch(pattern, dotted)), None)
    others = [other for other in OTHERS if type(other) is not type(old) and type(other) is not allowed]
    new = rng.choice([None, GONE, *(() if old is None else others)])
    frames[number] = (head, _change(value, path, new), tail)
    what = (
        f"{wire.name}, {name}, frame {number}: {dotted} = {old!r:.60} became {'nothing' if new is GONE else repr(new)}"
    )
    whole, changed = outcome(wire.make(), body), outcome(wire.make(), _joined(frames))
    if re.fullmatch(wire.essential, dotted) is None:
        assert changed.error is None, f"{what}: {changed.error!r}"
        assert _answer(changed) == _answer(whole), f"{what}: {_answer(changed)} instead of {_answer(whole)}"
    elif not all(call.is_valid for call in changed.generation.tool_calls):
        return  # which isn't run
    elif changed.error is None and new is not None and new is not GONE:
        assert _answer(changed) == _answer(whole), f"{what}: {_answer(changed)} instead of {_answer(whole)}"
    elif changed.error is None:
        assert _is_part(changed.text, whole.text), f"{what}: {changed.text!r} instead of {whole.text!r}"


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
def test_what_is_beside_the_point_never_fails_an_answer(wire: Wire) -> None:
    streams = wire.streams()
    assert streams
    names = sorted(streams)
    rng = random.Random(wire.name + os.environ.get("MELLEA_SEED", ""))
    for _ in range(CHANGES // len(WIRES)):
        name = rng.choice(names)
        _check(wire, name, streams[name], rng)
