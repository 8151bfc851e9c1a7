"""Requirements by regular expressions.

Python's `re` can't be interrupted and holds the interpreter's lock while it searches. A pattern that backtracks, such
as `(a+)+$`, can take forever on a text that a model is free to choose, and blocks every thread meanwhile. Write
patterns in which a piece of text can match in only one way, and limit repetitions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from mellea.core.chunkers import Chunk
from mellea.core.entrance import entrance
from mellea.core.requirement import Requirement, ValidationResult
from mellea.errors import UsageError
from mellea.stdlib.requirements.shorthand import simple_validate

__all__ = ["matches", "no_match"]

_LONGEST_QUOTE = 80


@entrance("matches")
def matches(
    pattern: str | re.Pattern[str],
    *,
    full: bool = False,
    each_line: bool = False,
    description: str | None = None,
    check_only: bool = False,
) -> Requirement:
    """Make a requirement that a regular expression matches the output.

    A pattern that backtracks may take forever, and blocks the whole process meanwhile.

    Args:
        pattern: a pattern of the module `re`; flags can be set in it, as in `(?i)`.
        full: it has to match the whole text, except white space around it, not just a part.
        each_line: it has to match every line that isn't empty; a stream is stopped at the first other line.
        description: the text for the prompt, instead of the default. A model understands words better than a pattern.
        check_only: keep it out of the prompt.

    Raises:
        UsageError: it is not a regular expression.
    """
    compiled = _compile(pattern)
    search = compiled.fullmatch if full else compiled.search

    def validate(text: str) -> ValidationResult:
        # The first one is enough, for the reason that the model is given and for stopping the stream.
        bad = next((line for line in _split_lines(text) if search(line) is None), None) if each_line else None
        if each_line:
            return ValidationResult(bad is None, None if bad is None else f"the line {_shorten(bad)} doesn't match it")
        met = search(text.strip()) is not None
        return ValidationResult(met, None if met else f"{_shorten(text)} doesn't match it")

    what = "Every line matches" if each_line else "The whole text matches" if full else "The text has a match of"
    return _make_requirement(
        validate, description or f"{what} the regular expression {compiled.pattern}", check_only, each_line
    )


@entrance("no_match")
def no_match(
    pattern: str | re.Pattern[str], *, description: str | None = None, check_only: bool = False
) -> Requirement:
    """Make a requirement that a regular expression matches no part of any line; a match stops a stream.

    A pattern that backtracks may take forever, and blocks the whole process meanwhile.

    Args:
        pattern: a pattern of the module `re`; flags can be set in it, as in `(?i)`.
        description: the text for the prompt, instead of the default.
        check_only: keep it out of the prompt.

    Raises:
        UsageError: it is not a regular expression.
    """
    compiled = _compile(pattern)

    def validate(text: str) -> ValidationResult:
        found = next((match for line in _split_lines(text) if (match := compiled.search(line)) is not None), None)
        return ValidationResult(found is None, None if found is None else f"it has {_shorten(found[0])}")

    said = description or f"The text has no match of the regular expression {compiled.pattern}"
    return _make_requirement(validate, said, check_only, True)


def _make_requirement(
    validate: Callable[[str], ValidationResult], description: str, check_only: bool, by_line: bool
) -> Requirement:
    def validate_chunk(chunk: Chunk) -> ValidationResult:
        return validate(str(chunk))

    function = simple_validate(validate)
    if not by_line:
        return Requirement(description, function, check_only)
    return Requirement(description, function, check_only, validate_chunk, "line")


def _compile(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError, OverflowError) as error:
        raise UsageError(f"{pattern!r} is not a regular expression: {error}") from error
    if not isinstance(compiled.pattern, str):
        raise UsageError(f"{pattern!r} is a regular expression of bytes; an output is text")
    return compiled


def _split_lines(text: str) -> Iterable[str]:
    """Return the lines that aren't empty. Only a line feed ends a line, as in the chunks of a stream."""
    return (stripped for line in text.split("\n") if (stripped := line.strip()))


def _shorten(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…")
