"""Requirements on code in an output. The code is parsed, never run."""

from __future__ import annotations

import ast
import threading
import warnings

from mellea.core.entrance import entrance
from mellea.core.requirement import Requirement, ValidationResult
from mellea.stdlib.requirements.markdown import find_fenced_blocks
from mellea.stdlib.requirements.shorthand import simple_validate

__all__ = ["python_syntax"]

_PYTHON = frozenset({"", "py", "py3", "python", "python3"})
_LONGEST = 1_000_000
"""Characters; Python's parser has no limit of its own on time or memory."""

_filters = threading.Lock()  # `catch_warnings` changes the filters of the whole process


@entrance("python_syntax")
def python_syntax(*, description: str | None = None, check_only: bool = False) -> Requirement:
    """Make a requirement that the output is Python code that the running Python can parse.

    If the output has fenced code blocks, those without a language and those in Python are checked. The code is never
    run, and names aren't resolved.

    Args:
        description: the text for the prompt, instead of the default.
        check_only: keep it out of the prompt.
    """
    text = description or "Write valid Python code, and nothing else."
    return Requirement(text, simple_validate(_validate), check_only)


def _validate(text: str) -> ValidationResult:
    if len(text) > _LONGEST:
        return ValidationResult(False, f"it has {len(text)} characters, too many to parse")
    fenced = find_fenced_blocks(text)
    blocks = [code for language, code in fenced if language in _PYTHON]
    if fenced and not blocks:
        return ValidationResult(False, f"its code is {fenced[0][0]!r}, not Python")
    blocks = blocks or [text]
    if not any(block.strip() for block in blocks):
        return ValidationResult(False, "it has no code")
    wrong = next((reason for block in blocks if (reason := _find_error(block)) is not None), None)
    return ValidationResult(wrong is None, wrong)


def _find_error(code: str) -> str | None:
    try:
        # Python warns about doubtful code, such as an unknown escape; the program's user shouldn't see that.
        with _filters, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except SyntaxError as error:
        line = (error.text or "").strip()[:80]
        return f"line {error.lineno}: {error.msg}" + (f", in {line!r}" if line else "")
    except ValueError as error:  # a null byte
        return str(error)
    except (RecursionError, MemoryError):
        return "it is nested too deeply"
    return None
