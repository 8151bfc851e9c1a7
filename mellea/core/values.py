"""Values that are made for every call or every delta: frozen for the type checker alone.

A frozen dataclass sets each field through a function, which takes six times as long. Values that programs make
themselves are frozen dataclasses all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

__all__ = ["find_quick_value"]

C = TypeVar("C")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def find_quick_value(cls: type[C]) -> type[C]:
    """Make a slotted dataclass that type checkers take as frozen."""
    return dataclass(slots=True)(cls)
