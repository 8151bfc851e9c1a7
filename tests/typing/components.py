"""What a type checker has to see of objects and components. Checked by mypy and pyright, never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from mellea import ComputedModelOutputThunk, MelleaSession, ModelOutputThunk
from mellea.stdlib.components import MObject, Table, mify


@mify
@dataclass
class Bare:
    name: str


@mify(fields_include={"name"}, funcs_exclude={"go"})
class Chosen:
    def __init__(self, name: str) -> None:
        self.name = name

    def go(self) -> int:
        """Go."""
        return 1


class Derived(MObject, fields_exclude={"b"}):
    a: int = 1
    b: int = 2


def a_class_keeps_its_type() -> None:
    assert_type(Bare("x"), Bare)
    assert_type(Bare("x").name, str)
    assert_type(Chosen("x").go(), int)
    assert_type(mify(Chosen("x"), fields_include={"name"}), Chosen)
    assert_type(mify(Bare), type[Bare])
    assert_type(Derived().a, int)
    assert_type(Table.from_csv("a,b"), Table)
    assert_type(Table([], ["a"]).transpose(), Table)


async def verbs(m: MelleaSession) -> None:
    assert_type(await m.aquery(Bare("x"), "Why?"), ComputedModelOutputThunk[str])
    assert_type(await m.aquery(Bare("x"), "Why?", await_result=False), ModelOutputThunk[str])
    assert_type(await m.aquery(Bare("x"), "How many?", format=int), ComputedModelOutputThunk[int])
    assert_type(await m.aquery(Bare("x"), "How many?", format=int, await_result=False), ModelOutputThunk[int])
    assert_type(m.query("text", "Why?").value, str)
    transformed: Any = await m.atransform(Bare("x"), "Rename it.")
    assert_type(transformed, Any)
