"""Code of the user's that validation calls runs in a worker thread, whatever it is and wherever it stands."""

from __future__ import annotations

import dataclasses
import enum
import threading
from typing import Annotated, Any, Literal, NamedTuple, Self

import pytest
from pydantic import BaseModel, Discriminator, Field, PrivateAttr, Tag

import mellea
from mellea.core.structured.output_format import make_output_format
from mellea.testing import ScriptedBackend

pytestmark = pytest.mark.anyio

threads: list[threading.Thread] = []


def note(value: Any = 1) -> Any:
    threads.append(threading.current_thread())
    return value


class Factory(BaseModel):
    b: int = Field(default_factory=note)


class Private(BaseModel):
    a: int = 1
    _p: int = PrivateAttr(default_factory=note)


class New(BaseModel):
    a: int = 1

    def __new__(cls, *args: Any, **fields: Any) -> Self:
        note()
        return super().__new__(cls)


@dataclasses.dataclass
class Data:
    a: int = dataclasses.field(default_factory=note)


@dataclasses.dataclass
class Hidden:
    b: int = 2
    a: int = dataclasses.field(init=False, default_factory=note)


class Colour(enum.Enum):
    RED = "red"

    @classmethod
    def _missing_(cls, value: object) -> Colour:
        note()
        return cls.RED


class Painted(BaseModel):
    colour: Colour


class Row(NamedTuple):
    a: int = 1


class OwnRow(Row):
    def __new__(cls, *args: Any) -> Self:
        note()
        return super().__new__(cls, *args)


class One(BaseModel):
    kind: Literal["one"]


class Two(BaseModel):
    kind: Literal["two"]


Tagged = Annotated[
    Annotated[One, Tag("one")] | Annotated[Two, Tag("two")],
    Discriminator(lambda value: note(value["kind"])),
]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (Factory, "{}"),
        (Private, "{}"),
        (New, '{"a": 1}'),
        (Data, "{}"),
        (Hidden, "{}"),
        (Painted, '{"colour": "?"}'),
        (OwnRow, "[1]"),
        (Tagged, '{"kind": "one"}'),
    ],
)
async def test_it_never_runs_on_the_loop(kind: Any, answer: str) -> None:
    threads.clear()
    await mellea.start_session(ScriptedBackend(answer)).ainstruct("q", format=kind)
    assert threads and threading.current_thread() not in threads


@dataclasses.dataclass
class Lists:
    a: list[int] = dataclasses.field(default_factory=list)


class Plain(BaseModel):
    a: list[int] = Field(default_factory=list)
    b: Row | None = None


@pytest.mark.parametrize("kind", [Lists, Plain, Row, list[Literal["a"]], dict[str, Lists]])
def test_without_any_no_thread_is_needed(kind: Any) -> None:
    assert make_output_format(kind).is_quick
