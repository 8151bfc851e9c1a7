"""Numbers that users pass as arguments: which are valid, and what the error says."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, overload

from mellea.errors import UsageError

__all__ = ["check_number", "check_whole", "is_number", "is_whole", "show_argument"]


def show_argument(value: Any, write: Callable[[Any], str] = repr) -> str:
    """Return an argument as an error shows it, whatever its `repr` does.

    Args:
        value: the argument.
        write: writes it.
    """
    try:
        return write(value)
    except Exception:  # noqa: BLE001 - the user's `__repr__`; and Python writes no number of more than 4300 digits
        return f"this {type(value).__name__}"


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether a value is a whole number from `least`. `True` is none, since it is a mistake where a number belongs."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that a float can hold, and no bool."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


@overload
def check_whole(name: str, value: Any, least: int = 1, *, of: str = "", or_none: Literal[False] = False) -> int: ...
@overload
def check_whole(name: str, value: Any, least: int = 1, *, of: str = "", or_none: Literal[True]) -> int | None: ...
def check_whole(name: str, value: Any, least: int = 1, *, of: str = "", or_none: bool = False) -> int | None:
    """Return an argument that has to be a whole number.

    Args:
        name: the argument, as the error names it.
        value: what was passed.
        least: the smallest valid number.
        of: what it counts, for the error.
        or_none: whether `None` is valid as well.

    Raises:
        UsageError: it isn't a whole number from `least`.
    """
    if not (is_whole(value, least) or (or_none and value is None)):
        what = f"a whole number of {of}" if of else "a whole number"
        raise UsageError(
            f"{name} takes {what} from {least}{', or None' if or_none else ''}, not {show_argument(value)}"
        )
    return value  # type: ignore[no-any-return]


def check_number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    of: str = "",
    or_none: bool = False,
) -> None:
    """Reject an argument that isn't a finite number in a range.

    Args:
        name: the argument, as the error names it.
        value: what was passed.
        least: the smallest valid number.
        above: what the number has to exceed; pass either this or `least`.
        most: the largest valid number.
        of: what it counts, for the error.
        or_none: whether `None` is valid as well.

    Raises:
        UsageError: it isn't such a number.
    """
    if (or_none and value is None) or (
        is_number(value)
        and (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
    ):
        return
    what = f"a number of {of}" if of else "a number"
    for word, limit in (("from", least), ("above", above), ("up to", most)):
        what += f" {word} {limit}" if limit is not None else ""
    raise UsageError(f"{name} takes {what}{', or None' if or_none else ''}, not {show_argument(value)}")
