"""Values that the library makes itself: frozen for the type checker alone, and cheap to declare.

Rules:

- A frozen dataclass sets each field through a function, which takes six times as long. So what is made for every call
  or every delta isn't frozen when the program runs.
- A dataclass compiles each of its methods when its class is declared, which is a good part of what an import takes.
  So all of these share their methods but `__init__`.
- Values that programs make themselves are frozen dataclasses all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from reprlib import recursive_repr
from typing import Any, TypeVar, cast, dataclass_transform

__all__ = ["quick_value"]

C = TypeVar("C")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def quick_value(cls: type[C]) -> type[C]:
    """Make a slotted dataclass that type checkers take as frozen.

    Two are equal, and have the same hash, if their classes are the same and all their fields are equal.
    """
    for name in ("__eq__", "__hash__", "__repr__"):
        if name not in vars(cls):
            setattr(cls, name, vars(_Methods)[name])
    return dataclass(slots=True, repr=False, eq=False)(cls)


class _Methods:
    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return _list_compared(self) == _list_compared(other)

    def __hash__(self) -> int:
        return hash(_list_compared(self))

    @recursive_repr()
    def __repr__(self) -> str:
        shown = [f"{each.name}={getattr(self, each.name)!r}" for each in fields(cast("Any", self)) if each.repr]
        return f"{type(self).__qualname__}({', '.join(shown)})"


def _list_compared(value: Any) -> tuple[Any, ...]:
    return tuple([getattr(value, each.name) for each in fields(value) if each.compare])
