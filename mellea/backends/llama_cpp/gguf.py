"""Reads a GGUF file's metadata, without the engine.

The layout is that of GGUF versions 2 and 3 (ggml's docs/gguf.md, 2026): magic, version, number of tensors, number of
metadata entries, then the entries, each a name, a kind and a value. Everything is little-endian.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["MAGIC", "read_metadata"]

MAGIC = b"GGUF"

_SCALARS = {
    kind: struct.Struct(f"<{letter}")
    for kind, letter in enumerate(["B", "b", "H", "h", "I", "i", "f", "?", "_", "_", "Q", "q", "d"])
    if letter != "_"
}
_COUNT, _KIND = _SCALARS[10], _SCALARS[4]
_STRING = 8
_ARRAY = 9


def read_metadata(file: Path, is_wanted: Callable[[str], bool]) -> dict[str, Any]:
    """Return the metadata entries with the given names.

    Raises:
        ValueError: the file ends too early, or isn't GGUF of a version from 2.
        OSError: it can't be read.
    """
    # Mapped: the metadata is the first few megabytes of a file of gigabytes.
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Reader(data).entries(is_wanted)
        except struct.error as error:
            raise ValueError(f"it ends in the middle of its metadata ({error})") from error


class _Reader:
    """Reads the file step by step, checking each length against the file's end, since its numbers can't be trusted."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def entries(self, is_wanted: Callable[[str], bool]) -> dict[str, Any]:
        if self._read_bytes(4) != MAGIC:
            raise ValueError("it doesn't begin like a GGUF file")
        if (version := self._take(_KIND)) not in (2, 3):
            raise ValueError(f"it has version {version} of GGUF")
        self._take(_COUNT)
        found = {}
        for _ in range(self._take(_COUNT)):
            name = self._read_text()
            value = self._read_value(self._take(_KIND), wanted := is_wanted(name))
            if wanted:
                found[name] = value
        return found

    def _read_value(self, kind: int, wanted: bool) -> Any:
        if kind == _STRING:
            return self._read_text() if wanted else self._skip(self._take(_COUNT))
        if kind == _ARRAY:
            return self._read_array(self._take(_KIND), self._take(_COUNT), wanted)
        return self._take(self._find_scalar(kind))

    def _read_array(self, kind: int, length: int, wanted: bool) -> list[Any] | None:
        if kind == _STRING:
            if wanted:
                return [self._read_text() for _ in range(length)]
            for _ in range(length):
                self._skip(self._take(_COUNT))
            return None
        scalar = self._find_scalar(kind)
        start = self._at
        # In one step: a vocabulary has a hundred thousand scores that aren't needed.
        self._skip(length * scalar.size)
        return [value for (value,) in scalar.iter_unpack(self._data[start : self._at])] if wanted else None

    def _find_scalar(self, kind: int) -> struct.Struct:
        if kind not in _SCALARS:
            raise ValueError(f"it has a value of the unknown kind {kind}")
        return _SCALARS[kind]

    def _take(self, scalar: struct.Struct) -> Any:
        (value,) = scalar.unpack_from(self._data, self._at)
        self._at += scalar.size
        return value

    def _read_text(self) -> str:
        return self._read_bytes(self._take(_COUNT)).decode("utf-8", "replace")

    def _read_bytes(self, length: int) -> bytes:
        start = self._at
        self._skip(length)
        return self._data[start : self._at]

    def _skip(self, length: int) -> None:
        # Compared, never allocated: a length from a damaged file may be anything.
        if length > len(self._data) - self._at:
            raise ValueError("it ends in the middle of its metadata")
        self._at += length
