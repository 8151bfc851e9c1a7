"""A tool's result: a value for the program, and a text for the model."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mellea.core.blocks import Block
from mellea.core.serialise import json_value
from mellea.core.surrogates import replace_surrogates

__all__ = ["ToolReturn", "serialise_result"]


@dataclass(frozen=True, slots=True)
class ToolReturn:
    """A tool's result with a text for the model that differs from the value for the program.

    Args:
        value: for the program, in the result's event: `event.result.value`.
        text: for the model: a string, a block such as an image, a list of both, or any value with a JSON form.
    """

    value: Any
    text: Any

    @classmethod
    def of(cls, returned: Any) -> ToolReturn:
        """Wrap a tool's result in a `ToolReturn`, unless it is one; the model then reads the value itself."""
        return returned if isinstance(returned, cls) else cls(returned, returned)


def serialise_result(result: Any, *, serialize_unknown: bool = True) -> Any:
    """Return a tool's result as the model reads it: texts and blocks as they are, the rest as JSON values.

    Files and images in a list or a dict stay blocks, so that the model sees them and not their base64.

    Args:
        result: the result.
        serialize_unknown: write an object that has no JSON form as its `str()`.

    Raises:
        UsageError: it has no JSON form, such as a list that contains itself.
    """
    serialise = functools.partial(serialise_result, serialize_unknown=serialize_unknown)
    if isinstance(result, ToolReturn):
        return serialise(result.text)
    if isinstance(result, Block):
        return result
    if isinstance(result, str):  # of a file's name, for example
        return replace_surrogates(result)
    # Kept as a list of blocks: as JSON, an image would be base64 text, which no model can see.
    if isinstance(result, (list, tuple)) and any(isinstance(item, Block) for item in result):
        return [serialise(item) for item in result]
    if isinstance(result, Mapping) and any(isinstance(item, Block) for item in result.values()):
        rest = {name: item for name, item in result.items() if not isinstance(item, Block)}
        # The name comes first as text, since a block has none.
        blocks = [part for name, item in result.items() if isinstance(item, Block) for part in (f"{name}:", item)]
        return [*([serialise(rest)] if rest else []), *blocks]
    return json_value(result, serialize_unknown=serialize_unknown)
