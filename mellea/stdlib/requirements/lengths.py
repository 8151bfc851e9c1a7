"""Requirements on the length of an output."""

from __future__ import annotations

from typing import Literal, get_args

from mellea.core.chunkers import Chunk, Scope, make_text_chunker
from mellea.core.entrance import entrance
from mellea.core.numbers import check_whole
from mellea.core.requirement import Requirement, ValidationResult
from mellea.errors import UsageError
from mellea.stdlib.requirements.shorthand import simple_validate

__all__ = ["Unit", "length"]

Unit = Literal["words", "characters", "sentences", "paragraphs"]

_SCOPES: dict[str, Scope] = {
    "words": "word",
    "characters": "word",
    "sentences": "sentence",
    "paragraphs": "paragraph",
}


@entrance("length")
def length(
    unit: Unit = "words",
    *,
    min: int | None = None,
    max: int | None = None,
    description: str | None = None,
    check_only: bool = False,
) -> Requirement:
    """Make a requirement on the length of the output.

    With `max`, a stream is stopped as soon as the output is too long.

    Args:
        unit: `"words"`, separated by white space (use characters for Chinese, Japanese and Thai); `"characters"`,
            without trailing white space; `"sentences"`, recognised by their punctuation; or `"paragraphs"`, separated
            by empty lines.
        min: the least number.
        max: the greatest number.
        description: the text for the prompt, instead of the default.
        check_only: keep it out of the prompt.

    Raises:
        UsageError: neither `min` nor `max` is given, or one of them is not a whole number.
    """
    if unit not in get_args(Unit):
        raise UsageError(f"length takes one of {', '.join(map(repr, get_args(Unit)))} as unit, not {unit!r}")
    _check(min, max)

    def validate(text: str) -> ValidationResult:
        count = _count(unit, text)
        met = (min is None or count >= min) and (max is None or count <= max)
        return ValidationResult(met, f"it has {_format_count(count, unit)}")

    def validate_chunk(chunk: Chunk) -> ValidationResult:
        # Only the upper limit can be exceeded early; the lower one is checked at the end.
        count = chunk.start + len(chunk.rstrip()) if unit == "characters" else chunk.number + 1
        met = max is None or count <= max
        return ValidationResult(met, None if met else f"it already has {_format_count(count, unit)}")

    return Requirement(
        description or _describe(unit, min, max),
        simple_validate(validate),
        check_only,
        validate_chunk if max is not None else None,
        _SCOPES[unit] if max is not None else None,
    )


def _count(unit: Unit, text: str) -> int:
    if unit == "characters":
        # Counted as in a stream: trailing white space may be dropped from an answer.
        return len(text.rstrip())
    chunker = make_text_chunker(_SCOPES[unit])
    return len([*chunker.feed(text), *chunker.close()])


def _describe(unit: Unit, min: int | None, max: int | None) -> str:
    if min == max and max is not None:
        return f"Write exactly {_format_count(max, unit)}."
    if min is None and max is not None:
        return f"Write at most {_format_count(max, unit)}."
    if max is None and min is not None:
        return f"Write at least {_format_count(min, unit)}."
    return f"Write {min} to {max} {unit}."


def _format_count(count: int, unit: Unit) -> str:
    return f"{count} {unit.removesuffix('s') if count == 1 else unit}"


def _check(min: int | None, max: int | None) -> None:
    if min is None and max is None:
        raise UsageError("length takes min=, max= or both")
    for name, value in (("min", min), ("max", max)):
        check_whole(f"{name}= of length", value, 0, or_none=True)
    if min is not None and max is not None and min > max:
        raise UsageError(f"length takes a min that isn't above max, not min={min}, max={max}")
