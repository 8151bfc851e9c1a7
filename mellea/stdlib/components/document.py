"""Documents: texts with a title."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mellea.core.accumulator import Generation
from mellea.core.blocks import CBlock
from mellea.core.component import TemplateRepresentation
from mellea.core.entrance import entrance
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError

__all__ = ["Document"]


@entrance(
    "Document",
    page_content="it is 'text' here: text=…",
    content="it is 'text' here: text=…",
    metadata="a Document has text, title and id",
    doc_id="it is 'id' here: id=…",
    source="it is 'title' here: title=…",
)
@dataclass(frozen=True, slots=True)
class Document:
    """A text that a task is about or based on.

    Args:
        text: the text; with `CBlock(cache=True)` the provider is asked to cache the prompt up to its end.
        title: its title.
        id: an identifier by which an answer may cite it.

    Raises:
        UsageError: an argument is not text.
    """

    text: str | CBlock | ModelOutputThunk[Any]
    title: str | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, (str, CBlock, ModelOutputThunk)):
            raise UsageError(f"a Document's text is a string, not {self.text!r}; convert it with str() first")
        for name in ("title", "id"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise UsageError(f"a Document's {name} is a string, not {value!r}")

    def parts(self) -> Sequence[Any]:
        """Return the text."""
        return [self.text]

    def format_for_llm(self) -> TemplateRepresentation:
        """Return the document's template and values."""
        return TemplateRepresentation("Document", {"text": self.text, "title": self.title, "id": self.id})

    def parse(self, generation: Generation) -> str:
        """Return the text of the answer."""
        return generation.text
