"""`Note`: one thing that is remembered."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Note"]


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that is remembered.

    Attributes:
        id: its number in the file.
        text: what is remembered.
        at: when it was noted, in seconds since 1970.
    """

    id: int
    text: str
    at: float
