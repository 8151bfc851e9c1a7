"""Requirements: checks by Python functions, and by a model that judges.

May import: core, stdlib.call and what is below it. Read `validation.py` first, then `shorthand.py`.
"""

from mellea.core.requirement import Requirement, ValidationResult
from mellea.stdlib.requirements.code import python_syntax
from mellea.stdlib.requirements.judge import Judge
from mellea.stdlib.requirements.languages import language
from mellea.stdlib.requirements.lengths import length
from mellea.stdlib.requirements.markdown import markdown_list, markdown_table
from mellea.stdlib.requirements.pattern import matches, no_match
from mellea.stdlib.requirements.shorthand import check, req, simple_validate
from mellea.stdlib.requirements.structure import valid_json
from mellea.stdlib.requirements.tools import tool_arg_validator, uses_tool
from mellea.stdlib.requirements.validation import validate_all
from mellea.stdlib.requirements.words import contains, excludes

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
