"""Claims on what several maps could do at once: locks of the system, which end with the process that holds them.

Rules:

- The claims on a file's rows are locks on single bytes of the file `PATH-claims` beside it, at places that the rows'
  keys give. The system frees the locks of a process that ends, however it ends; one that was paused keeps them.
- These locks are per process, so what the maps of one process have claimed stands in a table, too. A process opens a
  file of claims once: closing it anywhere would drop all its locks (POSIX, `fcntl`).
- The first byte is held by everybody who has the file open, and by whoever removes it, alone.
- The second byte is held alone by the first process that opens the file: it has claimed everything, so that it needs no
  lock for each row. Another one that opens the file makes it longer, and can claim nothing before the first has noticed
  that, has locked what it has claimed, and shares the byte. Who has to notice calls `share_if_asked` often.
- A map that begins makes the file a byte longer. So whoever is alone with it knows that nobody else was there either.
- Without such locks (on Windows, or on a disk that has none) claims hold in one process only.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from contextlib import suppress
from types import ModuleType

__all__ = ["Claims"]

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

_log = logging.getLogger("mellea")

_SUFFIX = "-claims"
_ROOM_BYTE, _ALL_BYTE, _FIRST_BYTE = 0, 1, 2
_RETRY_SECONDS = 0.001
_TRIES = 1_000

_PATIENCE_SECONDS = 10.0
"""How long a process waits for the first one to share its claims, which may be paused."""

_TAKEN = (errno.EACCES, errno.EAGAIN)
"""What a lock that somebody else holds fails with; POSIX allows either."""

_turn = threading.RLock()  # re-entrant, as the collector may end claims at any moment
_files: dict[str, _File] = {}


class _File:
    """A file of claims that this process has open, for all its maps."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.users = 0
        self.starts = 0
        self.owners: dict[int, Claims] = {}  # by the byte
        self.descriptor: int | None = None
        self.has_all, self.is_shared = False, True  # holds the second byte alone; may claim
        self._opened = time.monotonic()
        if fcntl is None:
            return
        try:
            self.descriptor = _open(path)
            self.has_all = self.is_shared = _lock(self.descriptor, _ALL_BYTE)
        except OSError as error:
            self._go_on_alone(error)

    def _go_on_alone(self, error: OSError) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
        self.has_all, self.is_shared = False, True
        _log.warning(
            "%r can't be made or locked (%s), so another process that maps the same rows at this moment isn't "
            "noticed; start only one", self.path, error.strerror or error,
        )  # fmt: skip

    def lock(self, byte: int) -> bool:
        if self.descriptor is None or self.has_all:
            return True
        return (self.is_shared or self._join(self.descriptor)) and _lock(self.descriptor, byte)

    def unlock(self, byte: int) -> None:
        if self.descriptor is not None and not self.has_all and fcntl is not None:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, byte)

    def _join(self, descriptor: int) -> bool:
        """Whether the process that was first shares its claims now."""
        if fcntl is None or _lock(descriptor, _ALL_BYTE, fcntl.LOCK_SH):
            self.is_shared = True
        elif time.monotonic() - self._opened > _PATIENCE_SECONDS:
            self.is_shared = True
            _log.warning(
                "the process that uses %r does not react, it may be paused; its rows may be requested twice",
                self.path,
            )  # fmt: skip
        return self.is_shared

    def share(self) -> None:
        """Lock what is claimed, and let others claim the rest."""
        if self.descriptor is None or fcntl is None:
            return
        self.has_all = False
        try:
            for byte in self.owners:
                _lock(self.descriptor, byte)
            _lock(self.descriptor, _ALL_BYTE, fcntl.LOCK_SH)
        except OSError as error:  # the system has no more locks
            self._go_on_alone(error)

    def note_start(self) -> None:
        self.users += 1
        self.starts += 1
        if self.descriptor is not None:
            with suppress(OSError):  # a full disk: then `count_starts` tells nobody of this map
                os.write(self.descriptor, b".")

    def count_starts(self) -> int:
        return self.starts if self.descriptor is None else os.fstat(self.descriptor).st_size

    def close(self) -> None:
        if self.descriptor is None:
            return
        # Nobody else has it: it is removed before it is let go, and who waits for it makes another.
        with suppress(OSError):
            if _lock(self.descriptor, _ROOM_BYTE):
                os.unlink(self.path)
        os.close(self.descriptor)


class Claims:
    """The claims of one map; what it has claimed nobody else can claim until it is released.

    Args:
        path: the file whose rows are claimed; `":memory:"` for one that nobody else has.
    """

    def __init__(self, path: str) -> None:
        self._counts: dict[int, int] = {}  # how often this map has claimed a byte
        self._is_private = path == ":memory:"
        name = os.path.realpath(path) + _SUFFIX
        with _turn:
            self._file: _File | None = None
            if self._is_private:
                return
            self._file = _files.get(name)
            if self._file is None:
                self._file = _files[name] = _File(name)
            self._file.note_start()

    @property
    def is_alone(self) -> bool:
        """Whether nobody else has claimed anything since this map began."""
        return self._file is None or self._file.count_starts() == 1

    @property
    def is_seen_by_others(self) -> bool:
        """Whether other processes notice what is claimed."""
        return self._file is not None and self._file.descriptor is not None

    @property
    def is_waiting(self) -> bool:
        """Whether nothing can be claimed yet, as the process that was first doesn't share its claims yet."""
        return self._file is not None and not self._file.is_shared

    def share_if_asked(self) -> bool:
        """Share the claims with a process that came later, if there is one; false once that isn't asked any more."""
        with _turn:
            file = self._file
            if file is None or not file.has_all:
                return False
            # Each start makes the file longer; those of this process share its table anyway.
            if file.count_starts() > file.starts:
                file.share()
            return file.has_all

    def take(self, key: bytes) -> bool:
        """Claim a key; false if somebody else has. What is claimed twice has to be released twice."""
        file, byte = self._file, _find_byte(key)
        if file is None:
            return True
        with _turn:
            owner = file.owners.get(byte)
            if owner is None:
                if not file.lock(byte):
                    return False
                file.owners[byte] = self
            elif owner is not self:
                return False
            self._counts[byte] = self._counts.get(byte, 0) + 1
            return True

    def release(self, key: bytes) -> None:
        """Let others claim a key."""
        byte = _find_byte(key)
        with _turn:
            count = self._counts.pop(byte, 0)
            if count > 1:
                self._counts[byte] = count - 1
            elif count == 1:
                self._free(byte)

    def is_taken(self, key: bytes) -> bool:
        """Whether anybody has claimed a key, this map included."""
        with _turn:
            if _find_byte(key) in self._counts:
                return True
            if not self.take(key):
                return True
            self.release(key)
            return False

    def close(self) -> None:
        """Release all; nothing can be claimed any more. A second time has no effect."""
        with _turn:
            for byte in self._counts:
                self._free(byte)
            self._counts.clear()
            file, self._file = self._file, None
            if file is None:
                return
            file.users -= 1
            if not file.users:
                if _files.get(file.path) is file:
                    del _files[file.path]
                file.close()

    def _free(self, byte: int) -> None:
        if self._file is not None and self._file.owners.pop(byte, None) is not None:
            self._file.unlock(byte)

    def __del__(self) -> None:
        self.close()  # a map whose loop was ended has nobody left who would


def _find_byte(key: bytes) -> int:
    # Of two different keys with the same byte one would wait for the other, and no more; in 2**62 there are none.
    return (int.from_bytes(key[:8], "big") >> 2) + _FIRST_BYTE


def _open(path: str) -> int:
    """Open a file of claims, and hold its first byte."""
    if fcntl is None:
        raise OSError(errno.ENOSYS, "this system has no such locks")
    for _ in range(_TRIES):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            # Nobody is there, so what it holds is of killed processes.
            if _lock(descriptor, _ROOM_BYTE):
                os.ftruncate(descriptor, 0)
            if _lock(descriptor, _ROOM_BYTE, fcntl.LOCK_SH) and _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # Somebody removes it at this moment.
        os.close(descriptor)
        time.sleep(_RETRY_SECONDS)
    raise OSError(errno.EAGAIN, "somebody else keeps it locked")


def _lock(descriptor: int, byte: int, kind: int | None = None) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.lockf(descriptor, (fcntl.LOCK_EX if kind is None else kind) | fcntl.LOCK_NB, 1, byte)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _forget() -> None:
    """In a forked child, which has none of its parent's locks."""
    global _turn
    _turn = threading.RLock()
    for file in _files.values():
        if file.descriptor is not None:
            os.close(file.descriptor)
            file.descriptor = None  # a map of the parent that is dropped here has nothing to unlock
        file.owners.clear()
    _files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
