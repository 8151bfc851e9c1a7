"""Requirements: checks of an output, by Python functions or by a model that judges it."""

# May import: core, stdlib.call and what is below it. Read `validation.py` first, then `shorthand.py`.

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily

if TYPE_CHECKING:
    from mellea.core.requirement import Requirement as Requirement
    from mellea.core.requirement import ValidationResult as ValidationResult
    from mellea.stdlib.requirements.code import python_syntax as python_syntax
    from mellea.stdlib.requirements.judge import Judge as Judge
    from mellea.stdlib.requirements.languages import language as language
    from mellea.stdlib.requirements.lengths import length as length
    from mellea.stdlib.requirements.markdown import markdown_list as markdown_list
    from mellea.stdlib.requirements.markdown import markdown_table as markdown_table
    from mellea.stdlib.requirements.pattern import matches as matches
    from mellea.stdlib.requirements.pattern import no_match as no_match
    from mellea.stdlib.requirements.shorthand import check as check
    from mellea.stdlib.requirements.shorthand import req as req
    from mellea.stdlib.requirements.shorthand import simple_validate as simple_validate
    from mellea.stdlib.requirements.structure import valid_json as valid_json
    from mellea.stdlib.requirements.tools import tool_arg_validator as tool_arg_validator
    from mellea.stdlib.requirements.tools import uses_tool as uses_tool
    from mellea.stdlib.requirements.validation import validate_all as validate_all
    from mellea.stdlib.requirements.words import contains as contains
    from mellea.stdlib.requirements.words import excludes as excludes

__all__ = [
    "Judge",
    "Requirement",
    "ValidationResult",
    "check",
    "contains",
    "excludes",
    "language",
    "length",
    "markdown_list",
    "markdown_table",
    "matches",
    "no_match",
    "python_syntax",
    "req",
    "simple_validate",
    "tool_arg_validator",
    "uses_tool",
    "valid_json",
    "validate_all",
]

__getattr__ = lazily(
    __name__,
    {
        "Judge": "mellea.stdlib.requirements.judge",
        "Requirement": "mellea.core.requirement",
        "ValidationResult": "mellea.core.requirement",
        "check": "mellea.stdlib.requirements.shorthand",
        "contains": "mellea.stdlib.requirements.words",
        "excludes": "mellea.stdlib.requirements.words",
        "language": "mellea.stdlib.requirements.languages",
        "length": "mellea.stdlib.requirements.lengths",
        "markdown_list": "mellea.stdlib.requirements.markdown",
        "markdown_table": "mellea.stdlib.requirements.markdown",
        "matches": "mellea.stdlib.requirements.pattern",
        "no_match": "mellea.stdlib.requirements.pattern",
        "python_syntax": "mellea.stdlib.requirements.code",
        "req": "mellea.stdlib.requirements.shorthand",
        "simple_validate": "mellea.stdlib.requirements.shorthand",
        "tool_arg_validator": "mellea.stdlib.requirements.tools",
        "uses_tool": "mellea.stdlib.requirements.tools",
        "valid_json": "mellea.stdlib.requirements.structure",
        "validate_all": "mellea.stdlib.requirements.validation",
    },
)
