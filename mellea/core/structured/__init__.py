"""Structured output: types as JSON Schemas, and typed values out of a model's text, at its end and while it is written.

May import: core and errors. Read `output_format.py` first.
"""

from typing import TYPE_CHECKING

from mellea._door import lazily
from mellea.core.structured.asking import asking
from mellea.core.structured.markers import HoldBack, Needed
from mellea.core.structured.output_format import OutputFormat, output_format

if TYPE_CHECKING:
    from mellea.core.structured.item_chunker import ItemChunker as ItemChunker
    from mellea.core.structured.partials import Partial as Partial

__all__ = ["HoldBack", "ItemChunker", "Needed", "OutputFormat", "Partial", "asking", "output_format"]

__getattr__ = lazily(
    __name__,
    {
        "ItemChunker": "mellea.core.structured.item_chunker",
        "Partial": "mellea.core.structured.partials",
    },
)
