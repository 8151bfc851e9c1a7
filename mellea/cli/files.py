"""Checks the files that a command will read and write, before it does either."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from mellea.errors import UsageError

__all__ = ["check_files"]


def check_files(kept: Mapping[str, Path | None], written: Mapping[str, Path | None]) -> None:
    """Reject an output that would overwrite a file that is read or kept, or that can't be written there.

    Opening an output empties it, so this comes before anything is opened, and before anything is paid for.

    Args:
        kept: the files that are read or kept, by their names in messages.
        written: the files that are written, by their options.

    Raises:
        UsageError: two of them are the same file.
        OSError: the folder of an output doesn't exist, or the output is a folder.
    """
    seen: list[tuple[str, Path]] = []
    for name, path in kept.items():
        if path is not None:
            _add(seen, name, path)
    for name, path in written.items():
        if path is None:
            continue
        if not path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if path.exists() and not path.is_file():  # a device, such as /dev/null, may be named twice
            continue
        _add(seen, name, path)


def _add(seen: list[tuple[str, Path]], name: str, path: Path) -> None:
    if other := next((other for other, there in seen if _is_same(path, there)), None):
        raise UsageError(f"{name} and {other} are the same file, {str(path)!r}; name another file for {name}")
    seen.append((name, path))


def _is_same(one: Path, other: Path) -> bool:
    # By resolved paths, since outputs needn't exist yet, and by their identity on disk, for hard links.
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))
