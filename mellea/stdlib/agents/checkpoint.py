"""A file that always has the latest state of a run, whole."""

from __future__ import annotations

import os
import threading
from pathlib import Path

__all__ = ["replace_file"]


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
    if os.name != "nt":  # where a folder can be synced: without that, a failure of power could bring the old name back
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
