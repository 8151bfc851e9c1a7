"""Checks the files that a command will read and write before it does either, and claims those that it writes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mellea.batch.claims import Claims
from mellea.errors import UsageError

__all__ = ["check_files", "claim_files"]

_WHOLE = b"the whole file"
"""What is claimed of a file that is written."""


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


@contextmanager
def claim_files(written: Mapping[str, Path | None]) -> Iterator[None]:
    """Claim the files that a command writes while it works, since the lines of two commands would be mixed up.

    Args:
        written: the files, by their options.

    Raises:
        UsageError: another command is writing one of them.
    """
    with ExitStack() as held:
        for name, path in written.items():
            if path is None or (path.exists() and not path.is_file()):  # a pipe, or a device such as /dev/null
                continue
            claims = Claims(str(path))
            held.callback(claims.close)
            if not claims.take(_WHOLE):
                raise UsageError(
                    f"another command is writing {str(path)!r} at this moment; wait until it has ended, or give {name} "
                    "another file"
                )
        yield


def _add(seen: list[tuple[str, Path]], name: str, path: Path) -> None:
    if other := next((other for other, there in seen if _is_same(path, there)), None):
        raise UsageError(f"{name} and {other} are the same file, {str(path)!r}; name another file for {name}")
    seen.append((name, path))


def _is_same(one: Path, other: Path) -> bool:
    # By resolved paths, since outputs needn't exist yet, and by their identity on disk, for hard links.
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))
