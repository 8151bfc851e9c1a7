"""Typed output of the embedded model: items as they are written, and records out of texts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import anyio
import pytest
from pydantic import BaseModel, Field

import mellea
from mellea.backends.llama_cpp import LlamaCppBackend
from mellea.backends.llama_cpp.encode import encode, encode_messages
from mellea.backends.llama_cpp.weights import DEFAULT_MODEL, find_weights
from mellea.core.backend import Request
from mellea.core.structured import make_output_format
from mellea.errors import ConfigurationError
from tests.soak import is_thorough

pytestmark = pytest.mark.one_loop


@dataclass
class Hero:
    name: Annotated[str, Field(max_length=12)]
    age: Annotated[int, Field(ge=1, le=99)]


class HeroDict(TypedDict):
    name: Annotated[str, Field(max_length=12)]
    age: Annotated[int, Field(ge=1, le=99)]


class Resident(BaseModel):
    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=120)
    town: str = Field(max_length=20)


PEOPLE = [
    ("Anna", 34, "Oslo"),
    ("Ben", 71, "Rome"),
    ("Clara", 19, "Paris"),
    ("David", 45, "Berlin"),
    ("Emma", 28, "Madrid"),
    ("Frank", 52, "Dublin"),
    ("Grace", 63, "Athens"),
    ("Henry", 37, "Vienna"),
    ("Iris", 24, "Lisbon"),
    ("Jack", 80, "Prague"),
    ("Kate", 31, "London"),
    ("Leo", 47, "Warsaw"),
    ("Maria", 56, "Geneva"),
    ("Noah", 22, "Tokyo"),
    ("Olga", 68, "Moscow"),
    ("Paul", 40, "Boston"),
    ("Rosa", 33, "Lima"),
    ("Sam", 59, "Sydney"),
    ("Tina", 26, "Cairo"),
    ("Victor", 74, "Delhi"),
]
PROMPT = "Text: {name} is {age} years old and lives in {town}.\nGive the name, age and town of the text as JSON."
OPTIONS: dict[str, Any] = {"temperature": 0.0, "max_tokens": 60}


@pytest.fixture(scope="module")
def m() -> mellea.MelleaSession:
    pytest.importorskip("xllamacpp")
    try:
        find_weights(DEFAULT_MODEL)
    except ConfigurationError as error:
        pytest.skip(str(error))
    return mellea.start_session(model_options=OPTIONS)


@pytest.mark.parametrize("kind", [Hero, HeroDict])
@pytest.mark.anyio
async def test_items_come_while_the_model_still_writes(m: mellea.MelleaSession, kind: Any) -> None:
    three = Annotated[list[kind], Field(min_length=3, max_length=3)]
    thunk = await m.ainstruct("List three heroes.", format=three, await_result=False, model_options={"max_tokens": 150})
    texts: list[str] = []
    items: list[Any] = []
    async for item in thunk.items():
        texts.append(thunk.partial)
        items.append(item)
    assert items == thunk.parsed
    assert len(items) == 3
    assert thunk.value is not None
    for number, text in enumerate(texts[:2], 1):
        assert len(text) < len(thunk.value), f"item {number} came before the end"
        assert text.count("{") <= number + 1, f"item {number} came before the next but one began"


def test_items_of_a_plain_stream_come_while_the_model_still_writes(m: mellea.MelleaSession) -> None:
    two = Annotated[list[Hero], Field(min_length=2, max_length=2)]
    with m.stream("List two heroes.", format=two, model_options={"max_tokens": 120}) as stream:
        items = stream.items()
        first = next(items)
        before = len(stream.text)
        assert [first, *items] == stream.output
        assert before < len(stream.text)


@pytest.mark.anyio
async def test_partial_objects_grow_while_the_model_writes(m: mellea.MelleaSession) -> None:
    text = PROMPT.format(name="Anna", age=34, town="Oslo")
    seen: list[Any] = []
    async with m.astream(text, format=Resident) as stream:
        async for partial in stream.partials():
            seen.append((partial.path, partial.snapshot()))
    paths = [path for path, _ in seen]
    assert paths.index("name") < paths.index("age") < paths.index("town")
    assert seen[-1] == ("", json.loads(stream.text))


def right_fields(found: Any, person: tuple[str, int, str]) -> int:
    return sum(getattr(found, name) == value for name, value in zip(("name", "age", "town"), person, strict=True))


@pytest.mark.thorough
def test_records_are_all_valid_and_as_right_as_the_engine_itself_gets_them(m: mellea.MelleaSession) -> None:
    assert isinstance(m.backend, LlamaCppBackend)
    engine = anyio.run(m.backend.engine)
    format = make_output_format(Resident)
    ours = bare = 0
    people = PEOPLE if is_thorough() else PEOPLE[:6]
    for person in people:
        prompt = PROMPT.format(name=person[0], age=person[1], town=person[2])
        thunk = m.instruct(prompt, format=Resident, strategy=None)
        assert isinstance(thunk.parsed, Resident)
        assert thunk.request is not None
        ours += right_fields(thunk.parsed, person)
        sent = Request(thunk.request.messages, output_schema=format.schema, options=thunk.request.options)
        payload = encode(sent) | {"messages": encode_messages(sent)}
        bare += right_fields(Resident.model_validate_json(_bare(engine.server, payload)), person)
    fields = 3 * len(people)
    assert ours >= bare, f"{ours} of {fields} fields are right, of the engine's own {bare}"
    assert ours >= 0.75 * fields, f"only {ours} of {fields} fields are right"


def _bare(server: Any, payload: dict[str, Any]) -> str:
    pieces: list[str] = []

    def put(chunk: dict[str, Any]) -> None:
        pieces.extend(text for choice in chunk.get("choices", ()) if (text := choice["delta"].get("content")))

    server.handle_chat_completions(payload, put)
    return "".join(pieces)
