"""Requirements on the words that an output contains or avoids."""

from __future__ import annotations

import re

from mellea.core.chunkers import Chunk, Scope, check_scope
from mellea.core.entrance import entrance
from mellea.core.requirement import Requirement, ValidationResult
from mellea.errors import UsageError
from mellea.stdlib.requirements.shorthand import simple_validate

__all__ = ["contains", "excludes"]

_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Scripts without spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""


@entrance("contains")
def contains(
    *words: str,
    any: bool = False,
    case_sensitive: bool = False,
    description: str | None = None,
    check_only: bool = False,
) -> Requirement:
    """Make a requirement that the output contains all of some words or phrases.

    Args:
        words: whole words, so `"art"` isn't found in `"part"`; or phrases, with any white space between their words.
        any: one of them is enough.
        case_sensitive: distinguish upper and lower case.
        description: the text for the prompt, instead of the default.
        check_only: keep it out of the prompt.

    Raises:
        UsageError: no word is given, or one is empty or not a string.
    """
    # Compiled when the requirement is created, so that a bad word is reported there.
    patterns = _compile_patterns("contains", words, case_sensitive)

    def validate(text: str) -> ValidationResult:
        missing = [word for word, pattern in patterns.items() if pattern.search(text) is None]
        if not missing or (any and len(missing) < len(patterns)):
            return ValidationResult(True)
        return ValidationResult(False, f"it has {'none of' if any else 'no'} {_join_quoted(missing)}")

    one_of = "at least one of the words" if any and len(words) > 1 else _choose_noun(words)
    return Requirement(description or f"Use {one_of} {_join_quoted(words)}.", simple_validate(validate), check_only)


@entrance("excludes")
def excludes(
    *words: str,
    case_sensitive: bool = False,
    scope: Scope | None = None,
    description: str | None = None,
    check_only: bool = False,
) -> Requirement:
    """Make a requirement that the output contains none of some words or phrases; the first of them stops a stream.

    Naming a word in the prompt may tempt a model to use it; `check_only=True` keeps the words out of the prompt.

    Args:
        words: as in `contains`.
        case_sensitive: distinguish upper and lower case.
        scope: the chunks in which a stream is checked; by default words, or sentences if there are phrases.
        description: the text for the prompt, instead of the default.
        check_only: keep it out of the prompt.

    Raises:
        UsageError: no word is given, one is empty or not a string, or the scope is `"word"` and there is a phrase.
    """
    patterns = _compile_patterns("excludes", words, case_sensitive)
    phrase = next((word for word in words if len(word.split()) > 1), None)
    if scope is None:
        scope = "word" if phrase is None else "sentence"
    check_scope("scope", scope)
    if scope == "word" and phrase is not None:
        raise UsageError(f"{phrase!r} is more than one word, so scope='word' can't find it; use scope='sentence'")

    def validate(text: str) -> ValidationResult:
        found = [word for word, pattern in patterns.items() if pattern.search(text) is not None]
        return ValidationResult(not found, f"it has {_join_quoted(found)}" if found else None)

    def validate_chunk(chunk: Chunk) -> ValidationResult:
        return validate(chunk)

    return Requirement(
        description or f"Don't use {_choose_noun(words)} {_join_quoted(words)}.",
        simple_validate(validate),
        check_only,
        validate_chunk,
        scope,
    )


def _compile_patterns(what: str, words: tuple[str, ...], case_sensitive: bool) -> dict[str, re.Pattern[str]]:
    if not words:
        raise UsageError(f"{what} takes at least one word")
    for word in words:
        if not isinstance(word, str) or not word.strip():
            several = f"; give each as an argument of its own: {what}('one', 'two')"
            advice = several if isinstance(word, (list, tuple, set, frozenset)) else ""
            raise UsageError(f"{what} takes words or phrases, not {word!r}{advice}")
    return {word: re.compile(_make_pattern(word), re.NOFLAG if case_sensitive else re.IGNORECASE) for word in words}


def _make_pattern(word: str) -> str:
    pieces = word.split()
    return (
        # Not `\b`, which fails next to a word that begins with a mark, such as `.NET`.
        (r"(?<!\w)" if _has_edge(pieces[0][0]) else "")
        + r"\s+".join(map(re.escape, pieces))
        + (r"(?!\w)" if _has_edge(pieces[-1][-1]) else "")
    )


def _has_edge(letter: str) -> bool:
    return re.match(r"\w", letter) is not None and _UNSPACED.match(letter) is None


def _choose_noun(words: tuple[str, ...]) -> str:
    if len(words) > 1:
        return "the words"
    return "the phrase" if len(words[0].split()) > 1 else "the word"


def _join_quoted(words: list[str] | tuple[str, ...]) -> str:
    return ", ".join(map(repr, words))
