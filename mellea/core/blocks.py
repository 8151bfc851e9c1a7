"""Content blocks: the immutable pieces that messages are made of."""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from mellea.core.attributes import TOOL_CALL_WAYS, find_attribute
from mellea.core.displayed import Displayed
from mellea.errors import UsageError

if TYPE_CHECKING:
    from mellea.core.card import Card

__all__ = ["Block", "Bound", "CBlock", "FileBlock", "ImageBlock", "Source", "ThinkingBlock", "ToolCall", "ToolOutput"]


_OTHER_NAMES: Final = {
    "application/x-pdf": "application/pdf",
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
}
"""Common media types that aren't registered (IANA, 2026-11), and what providers call them."""


@dataclass(frozen=True, slots=True)
class CBlock:
    """A piece of text.

    Args:
        value: the text itself.
        cache: ask the provider to cache the prompt up to the end of this block.
    """

    value: str
    cache: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.value, str):
            raise UsageError(f"CBlock takes a string as value, not {self.value!r}; convert it with str() first")

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class FileBlock(Displayed):
    """A file in a message: its bytes, or a URL of them.

    Args:
        media_type: such as `"application/pdf"`.
        data: the bytes.
        url: where the provider can fetch them, if there is no `data`.
        filename: a name for people, and for `save` into a folder.
    """

    media_type: str
    data: bytes | None = field(default=None, repr=False)
    url: str | None = None
    filename: str | None = None

    def __post_init__(self) -> None:
        what = type(self).__name__
        if self.url is not None and not isinstance(self.url, str):
            raise UsageError(f"{what} takes a string as url, not {self.url!r}")
        # Both would be ambiguous, and neither would be empty.
        if (self.data is None) == (self.url is None):
            advice = f"; {what}.from_path(…) reads a file" if self.data is None else ""
            raise UsageError(f"{what} takes either data or url, and exactly one of them{advice}")
        if self.data is not None and not isinstance(self.data, bytes):
            raise UsageError(f"{type(self).__name__} takes bytes as data, not {type(self.data).__name__}")

    @property
    def essence(self) -> str:
        """The media type as providers know it: without parameters, in lower case, `image/jpeg` for `image/jpg`."""
        essence = self.media_type.partition(";")[0].strip().lower()
        return _OTHER_NAMES.get(essence, essence)

    @classmethod
    def from_path(cls, path: str | Path) -> Self:
        """Read a file from disk; its media type follows from its name.

        Raises:
            OSError: the file can't be read.
        """
        path = Path(path)
        media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return cls(media_type=media_type, data=path.read_bytes(), filename=path.name)

    def save(self, path: str | Path) -> Path:
        """Write the bytes to `path` (a file, or a folder if the block has a filename) and return where.

        Raises:
            UsageError: only the URL of the file is known.
            OSError: the file can't be written.
        """
        if self.data is None:
            raise UsageError(f"the file at {self.url!r} was not downloaded; fetch it from its url")
        path = Path(path)
        if path.is_dir():
            # The provider chooses the name: use only its last part, so that it can't leave the folder.
            path = path / (Path(self.filename or "").name or "file")
        path.write_bytes(self.data)
        return path

    def base64(self) -> str:
        """Return the bytes in base64, as wire formats want them."""
        return base64.b64encode(self.data or b"").decode("ascii")

    def _card_(self) -> Card:
        from mellea.core.card import Card, count_of, show_picture  # lazy: only a frontend needs it

        size = (self.url or "") if self.data is None else count_of(len(self.data), "byte")
        facts = [each for each in (self.filename, size) if each]
        return Card(
            type(self).__name__, self.media_type, facts, show_picture(self.essence, self.data, self.filename or "image")
        )


@dataclass(frozen=True, slots=True)
class ImageBlock(FileBlock):
    """An image in a message; PNG unless `media_type` says otherwise."""

    media_type: str = "image/png"


@dataclass(frozen=True, slots=True)
class ThinkingBlock:
    """A model's reasoning before its answer.

    Args:
        text: the reasoning, or the provider's summary of it.
        signature: the provider's proof of it, which goes back unchanged in the next turn. It begins with
            the provider's name and a colon, so that another provider's codec leaves it out.
    """

    text: str
    signature: str | None = None


class Bound:
    """A reference to the function behind a value. It isn't a field: copies, comparisons, JSON and pickles ignore it."""

    __slots__ = ("_function",)

    _function: Callable[..., Any]

    def bind(self, function: Callable[..., Any]) -> Self:
        """Attach the function, and return the value itself."""
        object.__setattr__(self, "_function", function)
        return self

    @property
    def function(self) -> Callable[..., Any] | None:
        """The function, or `None` if it isn't known."""
        return getattr(self, "_function", None)


@dataclass(frozen=True, slots=True)
class ToolCall(Bound):
    """One tool call that a model asks for.

    Args:
        tool_call_id: the id that its output refers to.
        tool_name: name of the tool.
        tool_args: the arguments by name; empty if they weren't a JSON object.
        raw_args: the arguments as the model wrote them.
        is_valid: whether `raw_args` was a JSON object, or empty.
        is_builtin: whether the provider runs this tool itself.
        signature: as for `ThinkingBlock`, where a provider signs its calls.
    """

    tool_call_id: str
    tool_name: str
    tool_args: Mapping[str, Any]
    raw_args: str = ""
    is_valid: bool = True
    is_builtin: bool = False
    signature: str | None = None

    @property
    def name(self) -> str:
        """Name of the tool; Mellea 0.8's name for `tool_name`."""
        return self.tool_name

    @property
    def args(self) -> Mapping[str, Any]:
        """The arguments by name; Mellea 0.8's name for `tool_args`."""
        return self.tool_args

    if not TYPE_CHECKING:  # type checkers then report unknown names

        def __getattr__(self, name: str) -> Any:
            return find_attribute(self, name, TOOL_CALL_WAYS)

    def call_func(self) -> Any:
        """Call the program's own tool with the arguments, as they are; Mellea 0.8's name for `tool(**call.tool_args)`.

        It asks for no approval. For an async tool it returns an awaitable.

        Raises:
            UsageError: the call doesn't come from a thunk's `tool_calls`, so its tool isn't known.
        """
        if self.function is None:
            raise UsageError(
                f"this call of {self.tool_name!r} isn't bound to its tool, as the calls in a thunk's tool_calls are; "
                f"call the "
                "tool itself: tool(**call.tool_args)"
            )
        return self.function(**self.tool_args)


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """The result of a tool call.

    Args:
        tool_call_id: the call that this answers.
        tool_name: name of the tool.
        result: what the model reads.
        is_error: whether `result` describes a failure.
        is_builtin: whether the provider ran the tool itself.
        value: what the tool returned for the program, where that isn't `result` itself.
    """

    tool_call_id: str
    tool_name: str
    result: Any
    is_error: bool = False
    is_builtin: bool = False
    value: Any = None

    @property
    def parts(self) -> tuple[CBlock | FileBlock, ...]:
        """The result as a model can read it: texts and files in order, anything else as JSON."""
        # A list of plain values is one JSON text, not one text each.
        return (_part(self.result),) if self.is_value else tuple(map(_part, self._items()))

    @property
    def is_value(self) -> bool:
        """Whether the result is a text or another JSON value, rather than blocks."""
        return not any(isinstance(item, (CBlock, FileBlock)) for item in self._items())

    @property
    def files(self) -> tuple[FileBlock, ...]:
        """The files and images in the result."""
        return tuple(item for item in self._items() if isinstance(item, FileBlock))

    def _items(self) -> Sequence[Any]:
        return self.result if isinstance(self.result, (list, tuple)) else (self.result,)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a statement comes from, as the provider cites it."""

    url: str | None = None
    title: str | None = None
    text: str | None = None


def _part(item: Any) -> CBlock | FileBlock:
    if isinstance(item, (CBlock, FileBlock)):
        return item
    return CBlock(item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, default=str))


Block = CBlock | FileBlock | ThinkingBlock | ToolCall | ToolOutput | Source
