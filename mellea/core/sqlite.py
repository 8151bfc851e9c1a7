"""SQLite files that threads, processes and forks write at the same time, and that a killed process leaves whole.

Rules:

- A file is of one kind, which its `application_id` says, and of one version, its `user_version`. A file of another
  kind or of a later version is refused and stays as it is; one of an earlier version is brought up to date.
- Whoever writes holds the file's lock for the whole transaction (`BEGIN IMMEDIATE`), so that nobody reads what somebody
  else is about to change. Readers see what was committed, and wait for nobody (write-ahead log).
- There is one connection for each `Database` and process; threads take turns. A forked child opens its own.
- A file that can't be written (its rights, those of its folder, a full disk) can still be read.
- The calls block: async code makes them in a worker thread.

Source: SQLite's documentation (https://www.sqlite.org/wal.html, pragma.html, howtocorrupt.html, 2026-11).
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
import weakref
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mellea.errors import StateError, UsageError

__all__ = ["Database", "UnusableFileError"]

_WAIT_SECONDS = 30.0
"""How long a statement waits for the lock of another process, in seconds."""

_LOOK_SECONDS = 0.01
"""How often the switch to the write-ahead log is tried again, which SQLite doesn't wait for by itself."""

_UNWRITABLE = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
)
"""The errors of SQLite where it can't write, also on a full disk."""

_left_behind: list[sqlite3.Connection] = []  # the parent's; closing one in a forked child could harm the parent's
_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_making = threading.Lock()
"""Held while a file is made, so that nobody opens it between its making and its closing."""


class UnusableFileError(StateError, sqlite3.OperationalError):
    """The file can't be opened, read or written now; SQLite's own error is its cause.

    It is both, so that a program needs to know nothing of SQLite, and one that does can still tell what happened.

    Attributes:
        is_locked: whether somebody else held the file's lock for too long.
        why: what is wrong with the file, and what to do about it.
    """

    is_locked = False
    why = ""


class Database:
    """One SQLite file, opened at its first use.

    Args:
        path: the file, made if it isn't there, readable for this user alone; `":memory:"` for one without a file.
        kind: what is kept in it, such as `"mellea resumes"`; the same forever.
        schema: the statements that make its tables, for each version those that bring the version before up to date.
            The number of versions is the version that is written.
        is_durable: whether a commit survives a failure of power (a write to the disk each); if not, a killed process.
        wait: seconds to wait for the lock of somebody else.
        is_fixed: whether it is only read, and nobody writes it meanwhile; several machines may read such a file over a
            network.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        kind: str,
        schema: Sequence[Sequence[str]],
        is_durable: bool = True,
        wait: float = _WAIT_SECONDS,
        is_fixed: bool = False,
    ) -> None:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise UsageError(f"a {kind} takes the path of a file, not {path!r}")
        self.path = os.fspath(path)
        self.kind = kind
        self._schema = schema
        self._is_durable, self._wait, self._is_fixed = is_durable, wait, is_fixed
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._is_reader = False  # whether the connection is one that can't write
        self._identity: tuple[int, int] | None = None
        self._log: tuple[int, int] | None = None  # what distinguishes the open file's own log
        _databases.add(self)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for one transaction, which is committed at the end, or rolled back by an exception.

        Raises:
            StateError: the file is of another kind or version, or damaged.
            UnusableFileError: it can't be opened or written, or its lock wasn't free for too long.
        """
        with self._lock, self._explaining():
            if self._is_reader:
                self.close()
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            if self._log is None and self._identity == _identify(self.path):
                self._log = _identify(f"{self.path}-wal")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for reading: all statements see the file as it was at the first of them.

        Raises:
            StateError: see `write`.
        """
        with self._lock, self._explaining():
            connection = self._open_to_read()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    def has_moved(self) -> bool:
        """Whether the open file was deleted or replaced, so that nobody finds what is written now."""
        with self._lock:
            if self._connection is None or self._process != os.getpid():
                return False
            return self._identity != _identify(self.path)

    def leave_moved(self) -> None:
        """After the file has moved, close it; the next use opens the file that is there now, or makes one."""
        with self._lock:
            # Before another is opened: the logs of both have one name. SQLite would take what is left of the old
            # file's log for the new one's, and write the old content over it.
            self.close()
            is_ours = self._log is not None and _identify(f"{self.path}-wal") == self._log
            if is_ours or not os.path.exists(self.path):
                for suffix in ("-wal", "-shm"):
                    with suppress(OSError):
                        os.unlink(self.path + suffix)
            self._log = None

    @contextmanager
    def replace(self) -> Iterator[str]:
        """After the file has moved: begin a new one, or go on in another that is there; give a copy of what was in it.

        The copy is a file that is there until the block is left.

        Raises:
            StateError: see `write`.
        """
        copy = f"{self.path}-moved-{os.getpid()}-{os.urandom(4).hex()}"
        with self._lock:
            try:
                with self._explaining():
                    _make_private(copy)
                    # The system keeps a file that somebody has open, and its log with it.
                    self._open().execute("VACUUM INTO ?", (copy,))
                self.leave_moved()
                yield copy
            finally:
                for suffix in ("", "-wal", "-shm"):
                    with suppress(OSError):
                        os.unlink(copy + suffix)

    def shrink(self, pages: int | None = None) -> bool:
        """Give the pages that are free in the file back to the disk, and return whether there are more.

        Args:
            pages: how many at most; `None` for all, during which nobody else can write.

        Raises:
            StateError: see `write`.
        """
        with self._lock, self._explaining():
            connection = self._open()
            free = _count_free(connection)
            if not free:
                return False
            # `execute` would free only a single page.
            connection.executescript(f"PRAGMA incremental_vacuum({pages or 0})")  # 0 means all
            # None was freed in a file that SQLite made without this; another try would free none either.
            return 0 < _count_free(connection) < free

    @contextmanager
    def open_twin(self) -> Iterator[Database]:
        """Give the same file with a connection of its own, for what takes long; one without a file gives itself."""
        if self.path == ":memory:":
            yield self
            return
        twin = Database(self.path, kind=self.kind, schema=self._schema, is_durable=self._is_durable, wait=self._wait)
        try:
            yield twin
        finally:
            twin.close()

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection, self._is_reader = None, False

    def __del__(self) -> None:
        # Nothing is lost if a connection is dropped instead of closed: committed data is in the file. But Python 3.13
        # would warn.
        connection = getattr(self, "_connection", None)
        if connection is not None and self._process == os.getpid():
            connection.close()

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except StateError:
            raise
        except (sqlite3.OperationalError, OSError) as error:
            why = _explain(error)
            found = UnusableFileError(f"the file {self.path!r} can't be used: {why}")
            found.why = why
            if isinstance(error, sqlite3.Error):
                found.sqlite_errorcode, found.sqlite_errorname = error.sqlite_errorcode, error.sqlite_errorname
                found.is_locked = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            raise found from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.NotSupportedError)):
                raise
            raise StateError(f"the file {self.path!r} is not a valid SQLite database: {error}") from error

    def _open(self) -> sqlite3.Connection:
        process = os.getpid()
        if self._connection is not None and self._process != process:
            # Kept, never closed: closing it in the child would drop the locks that the parent holds (SQLite, "How To
            # Corrupt", 2.6).
            _left_behind.append(self._connection)
            self._connection = None
        if self._connection is None:
            self._connection, self._process = self._connect(), process
            self._identity, self._log = _identify(self.path), None
        return self._connection

    def _open_to_read(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _UNWRITABLE or not os.path.isfile(self.path):
                raise
            connection = self._connect_reader()
            self._connection, self._process, self._is_reader = connection, os.getpid(), True
            return connection

    def _connect_reader(self) -> sqlite3.Connection:
        """Return a connection to a file that can't be written.

        Raises:
            UnusableFileError: it is of an earlier version.
        """
        # SQLite has to make the file beside a log if it isn't there, and fails where it may not. Without a log, all
        # that was committed is in the file itself, and nobody writes it now.
        is_whole = not os.path.exists(f"{self.path}-wal")
        way = "immutable=1" if is_whole else "mode=ro"
        connection = sqlite3.connect(
            f"{Path(self.path).absolute().as_uri()}?{way}",
            timeout=self._wait,
            isolation_level=None,
            check_same_thread=False,
            uri=True,
        )
        try:
            version = self._read_version(connection)
            if version < len(self._schema):
                raise UnusableFileError(
                    f"the file {self.path!r} has the earlier version {version} of {self.kind!r}, and may not be "
                    "written, so it can't be brought up to date; make it writable, or copy it"
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        if self.path != ":memory:" and not self._is_fixed:
            _make_private(self.path)
        connection = sqlite3.connect(
            f"{Path(self.path).absolute().as_uri()}?immutable=1" if self._is_fixed else self.path,
            timeout=self._wait,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
            uri=self._is_fixed,
        )
        try:
            self._read_version(connection)  # before anything is changed
            if self._is_fixed:
                return connection
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # only for a new file; lets pages be returned later
            self._use_log(connection)
            connection.execute(f"PRAGMA synchronous={'FULL' if self._is_durable else 'NORMAL'}")
            connection.execute("PRAGMA foreign_keys=ON")
            self._bring_up_to_date(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_log(self, connection: sqlite3.Connection) -> None:
        until = time.monotonic() + self._wait
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                # Switching to the write-ahead log takes a lock for which SQLite doesn't wait, whatever its time-out.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(_LOOK_SECONDS)

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        if self._read_version(connection) == len(self._schema):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have done this while this one waited.
            for version in range(self._read_version(connection), len(self._schema)):
                for statement in self._schema[version]:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id={self._application_id}")
            connection.execute(f"PRAGMA user_version={len(self._schema)}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    @property
    def _application_id(self) -> int:
        return zlib.crc32(self.kind.encode()) & 0x7FFFFFFF

    def _read_version(self, connection: sqlite3.Connection) -> int:
        # In one statement, so that tables that another process is creating at this moment are seen completely or not at
        # all.
        (tables, found, version) = connection.execute(
            "SELECT count(*), (SELECT application_id FROM pragma_application_id),"
            " (SELECT user_version FROM pragma_user_version) FROM sqlite_master"
        ).fetchone()
        # An empty file is treated as new; anything else belongs to another program.
        if found != self._application_id and (found or version or tables):
            raise StateError(f"the database {self.path!r} wasn't made for {self.kind!r}; use another file")
        if version > len(self._schema):
            raise StateError(
                f"the database {self.path!r} has version {version}, and this version of mellea knows {self.kind!r} up "
                f"to {len(self._schema)}; use the version that wrote it, or another file"
            )
        return int(version)

    def __repr__(self) -> str:
        return f"<Database {self.path!r} of {self.kind!r}>"


_MAKE_WRITABLE = "make the file and its folder writable for this user, or take another file"
_MAKE_ROOM = "make room on the disk, or take another file"

_CURES = {
    sqlite3.SQLITE_BUSY: "end the program that holds its lock",
    sqlite3.SQLITE_CANTOPEN: _MAKE_WRITABLE,
    sqlite3.SQLITE_FULL: _MAKE_ROOM,
    sqlite3.SQLITE_IOERR: _MAKE_ROOM,
    sqlite3.SQLITE_PERM: _MAKE_WRITABLE,
    sqlite3.SQLITE_READONLY: _MAKE_WRITABLE,
}
"""What to do about the errors of SQLite that may pass."""


def _explain(error: sqlite3.OperationalError | OSError) -> str:
    """Return what is wrong with a file, and what to do about it."""
    if isinstance(error, OSError):
        return f"{error.strerror}; {_MAKE_ROOM if error.errno in _NO_ROOM else _MAKE_WRITABLE}"
    cure = _CURES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    return f"{error}; {cure}" if cure else str(error)


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _count_free(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0])


def _identify(path: str) -> tuple[int, int] | None:
    """Return what distinguishes a file from any other that exists at the same time; `None` if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make_private(path: str) -> None:
    """Make the file for this user alone; SQLite would make it readable for others. Its other files get the same rights.

    A file that is there is left alone: closing it would drop the locks that other connections of this process hold on
    it (SQLite, "How To Corrupt", 2.2), and one that closes would then delete the log that others write.
    """
    with _making, suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _renew_locks() -> None:
    """In a forked child: another thread of the parent may have held one."""
    global _making
    _making = threading.Lock()
    for database in list(_databases):
        database._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
