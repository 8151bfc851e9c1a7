"""Requirements: checks by Python functions, and by a model that judges.

May import: core, stdlib.call and what is below it. Read `validation.py` first.
"""

from mellea.core.requirement import Requirement, ValidationResult
from mellea.stdlib.requirements.shorthand import check, req, simple_validate
from mellea.stdlib.requirements.validation import validate_all

__all__ = ["Requirement", "ValidationResult", "check", "req", "simple_validate", "validate_all"]
