"""A file that always has the latest state of a run.

Rules:

- The first state of a run is written in full, replacing the file's content. Each later one is appended as a change,
  so that the size grows linearly with the run, not quadratically.
- A process that is killed while it appends leaves an incomplete line, which readers ignore: the previous state counts.
- Once the changes are as long as the full state, it is written in full again, so that the file stays small.
- A file that another writer has changed is replaced.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from mellea.stdlib.agents.pending import Pending, write_change

__all__ = ["CheckpointFile", "replace_file"]

_FEW = 2**18
"""Bytes of changes for which it isn't worthwhile to write the whole state again."""


class CheckpointFile:
    """Writes the states of one run.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: Pending | None = None
        self._left: tuple[int, int, int] | None = None  # which file it is, and how long it was left
        self._whole = self._changes = 0  # bytes of the state that was written whole, and of what follows

    def write(self, pending: Pending) -> None:
        """Write a state; once this returns, it is on the disk.

        Raises:
            OSError: it can't be written.
            UsageError: something in it has no JSON form.
        """
        last, self._last = self._last, None  # if this fails, the next one is written whole
        line = b"" if last is None else write_change(last, pending).encode()
        is_short = self._changes + len(line) <= max(_FEW, self._whole)
        if not (line and is_short and self._append(line)):
            text = f"{pending.to_json()}\n"
            replace_file(self.path, text)
            about = self.path.stat()
            self._left = about.st_dev, about.st_ino, about.st_size
            self._whole, self._changes = about.st_size, 0
        self._last = pending

    def _append(self, line: bytes) -> bool:
        """Append a line; false if the file isn't as it was left."""
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            return False
        with open(file, "ab", closefd=True) as writing:
            about = os.fstat(file)
            if self._left != (about.st_dev, about.st_ino, about.st_size):
                return False
            writing.write(line)
            writing.flush()
            os.fsync(file)
        self._left = about.st_dev, about.st_ino, about.st_size + len(line)
        self._changes += len(line)
        return True


def replace_file(path: Path, text: str) -> None:
    """Write a file so that after a crash at any moment it is either the old one or the new one, whole.

    Raises:
        OSError: it can't be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with open(file, "w", encoding="utf-8", newline="") as writing:
            writing.write(text)
            writing.flush()
            os.fsync(writing.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if os.name != "nt":  # if the system can sync a folder: otherwise a power failure could bring the old file back
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
