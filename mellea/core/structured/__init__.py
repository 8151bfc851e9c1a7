"""Structured output: JSON Schemas from Python types, and typed values from a model's text, complete or still arriving.

May import: core and errors. Read `output_format.py` first.
"""

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily
from mellea.core.structured.output_format import OutputFormat, make_output_format
from mellea.core.structured.prompting import prompt_for_schema
from mellea.core.structured.visibility import HoldBack, Needed

if TYPE_CHECKING:
    from mellea.core.structured.item_chunker import ItemChunker as ItemChunker
    from mellea.core.structured.partials import Partial as Partial

__all__ = ["HoldBack", "ItemChunker", "Needed", "OutputFormat", "Partial", "make_output_format", "prompt_for_schema"]

__getattr__ = lazily(
    __name__,
    {
        "ItemChunker": "mellea.core.structured.item_chunker",
        "Partial": "mellea.core.structured.partials",
    },
)
