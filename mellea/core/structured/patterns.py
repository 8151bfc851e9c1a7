"""Match the regular expressions of JSON Schemas in linear time, whatever the text.

The pattern is the user's own, but the text comes from a model. Python's engine may take exponential time, so patterns
are matched by the engine in pydantic's core (Rust's `regex`), which has no look-around and no back-references.
Conditions at the very beginning, `^(?=…)(?!…)`, are matched one by one; any other look-around is refused when the
format is made.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

__all__ = ["PatternError", "compile_pattern"]

_CONDITION = re.compile(r"\(\?([=!])")


class PatternError(ValueError):
    """A pattern can't be matched in linear time, or isn't a pattern."""


@functools.lru_cache(maxsize=512)
def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Compile a pattern into a function that returns whether it occurs in a text.

    Raises:
        PatternError: it isn't a regular expression, or needs look-around or back-references.
    """
    if not pattern.startswith("^(?"):
        return _compile_linear(pattern)
    rest, parts = pattern[1:], []
    while condition := _CONDITION.match(rest):
        end = _find_group_end(rest)
        parts.append((_compile_linear(f"^(?:{rest[3:end]})"), condition[1] == "="))
        rest = rest[end + 1 :]
    parts.append((_compile_linear(f"^(?:{rest})" if "|" in rest else f"^{rest}"), True))
    return lambda text: all(matches(text) is wanted for matches, wanted in parts)


def _find_group_end(pattern: str) -> int:
    """Return the end of the group that the pattern begins with."""
    depth, is_class, place = 0, False, 0
    while place < len(pattern):
        char = pattern[place]
        if char == "\\":
            place += 1
        elif is_class:
            is_class = char != "]"
        elif char == "[":
            is_class = True
        elif char in "()":
            depth += 1 if char == "(" else -1
            if depth == 0:
                return place
        place += 1
    raise PatternError(f"the pattern {pattern!r} has a group without an end")


def _compile_linear(pattern: str) -> Callable[[str], bool]:
    from pydantic_core import SchemaError, SchemaValidator, core_schema  # lazy: plain text needs no pydantic

    try:
        schema = core_schema.str_schema(pattern=pattern, regex_engine="rust-regex")
        return SchemaValidator(schema).isinstance_python
    except SchemaError as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip().startswith("error:")]
        why = said[0].removeprefix("error:").strip() if said else "it isn't a regular expression"
        raise PatternError(
            f"the pattern {pattern!r} can't be matched in linear time: {why}; write it without look-around and "
            "back-references"
        ) from None
