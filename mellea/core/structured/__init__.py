"""Structured output: JSON Schemas from Python types, and typed values from a model's text, complete or partial."""

# May import: core and errors. Read `output_format.py` first.

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily

if TYPE_CHECKING:
    from mellea.core.structured.item_chunker import ItemChunker as ItemChunker
    from mellea.core.structured.output_format import OutputFormat as OutputFormat
    from mellea.core.structured.output_format import make_output_format as make_output_format
    from mellea.core.structured.partials import Partial as Partial
    from mellea.core.structured.prompting import prompt_for_schema as prompt_for_schema
    from mellea.core.structured.visibility import HoldBack as HoldBack
    from mellea.core.structured.visibility import Needed as Needed

__all__ = ["HoldBack", "ItemChunker", "Needed", "OutputFormat", "Partial", "make_output_format", "prompt_for_schema"]

__getattr__ = lazily(
    __name__,
    {
        "HoldBack": "mellea.core.structured.visibility",
        "ItemChunker": "mellea.core.structured.item_chunker",
        "Needed": "mellea.core.structured.visibility",
        "OutputFormat": "mellea.core.structured.output_format",
        "Partial": "mellea.core.structured.partials",
        "make_output_format": "mellea.core.structured.output_format",
        "prompt_for_schema": "mellea.core.structured.prompting",
    },
)
