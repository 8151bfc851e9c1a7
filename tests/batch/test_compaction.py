"""Compaction of a journal: nothing that was answered is asked again because of it, and nobody waits for it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea.batch import Journal
from mellea.batch import map as map_rows
from mellea.core import journal as journal_module
from mellea.core.journal import Answer
from mellea.core.sqlite import Database
from mellea.errors import StateError
from mellea.testing import ScriptedBackend

Asks = Callable[..., int]


@pytest.fixture
def asks(tmp_path: Path) -> Asks:
    """Return a function that maps rows with a journal, and returns how many requests that took."""

    def ask(rows: list[Any], prompt: str = "Rate it.", *, fails: str = "-") -> int:
        backend = ScriptedBackend(lambda request: _answer(request, fails))
        rate = mellea.generative(session=mellea.MelleaSession(backend), strategy=None)(_make_function(prompt))
        list(map_rows(rate, rows, journal=tmp_path / "run.db", id=_find_id, retries=0))
        return len(backend.requests)

    return ask


def _answer(request: Any, fails: str) -> str:
    if fails in request.messages[-1].text:
        raise ValueError("refused")
    return "fine"


def _make_function(prompt: str) -> Callable[[str], str]:
    def rate(text: str) -> str:
        return text  # not called: the model answers

    rate.__doc__ = prompt
    return rate


def _find_id(row: Any) -> str:
    text = row if isinstance(row, str) else row["text"]
    return text.partition(" ")[0]


@pytest.mark.parametrize("form", ["text", "dict"])
def test_rows_with_the_same_id_keep_their_answers(asks: Asks, tmp_path: Path, form: str) -> None:
    texts = ["a one", "a two", "b one", "a three"]
    rows: list[Any] = texts if form == "text" else [{"text": text} for text in texts]
    assert asks(rows) == 4
    assert Journal(tmp_path / "run.db").compact() == 0
    assert asks(rows) == 0


def test_of_a_row_whose_prompt_has_changed_the_latest_answer_is_kept(asks: Asks, tmp_path: Path) -> None:
    rows = ["a one", "a two", "b one"]
    assert asks(rows) == asks(rows, "Rate it well.") == 3
    assert Journal(tmp_path / "run.db").compact() == 3
    assert asks(rows, "Rate it well.") == 0
    assert asks(rows) == 3, "these are gone"


def test_what_cannot_be_told_apart_is_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.db")
    job = journal.job("x")
    journal.commit([Answer(job, "a", bytes([number]) * 16, "1", None, 0.0, 1.0) for number in range(3)])
    assert journal.compact() == 0
    journal.commit([Answer(job, "a", bytes(16), "2", None, 0.0, 2.0)])
    assert journal.compact() == 1, "the same key twice"
    assert [answer["value"] for answer in journal.answers()] == [1, 1, 2]


def test_dead_letters_of_rows_with_the_same_id_are_kept(asks: Asks, tmp_path: Path) -> None:
    asks(["a bad 1", "a bad 2", "a good"], fails="bad")
    journal = Journal(tmp_path / "run.db")
    assert [failure["row"] for failure in journal.failures()] == ["a bad 1", "a bad 2"]
    assert journal.compact() == 0
    assert asks(["a bad 1", "a good"]) == 1
    assert [failure["row"] for failure in journal.failures()] == ["a bad 2"]
    assert journal.compact() == 1
    assert [failure["row"] for failure in journal.failures()] == ["a bad 2"]


def test_an_answer_that_moves_while_a_map_runs_is_found(asks: Asks, tmp_path: Path) -> None:
    path, other = tmp_path / "run.db", tmp_path / "other.db"
    texts = [f"r{number} x" for number in range(40)]
    asks(texts)
    Journal(other).merge(path)
    backend = ScriptedBackend("asked again")
    rate = mellea.generative(session=mellea.MelleaSession(backend), strategy=None)(_make_function("Rate it."))
    rows = map_rows(rate, texts, journal=path, id=_find_id, concurrency=1)
    assert next(rows).cached
    journal = Journal(path)
    journal.merge(other)
    assert journal.compact() == 40, "the answers that the map knows of"
    assert all(row.cached for row in rows)
    assert not backend.requests


def test_a_journal_of_the_first_version_goes_on(asks: Asks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Database(tmp_path / "run.db", kind="mellea journal", schema=journal_module._SCHEMA[:1], is_durable=False)
    with first.write() as connection:
        connection.execute("INSERT INTO jobs (name) VALUES ('x')")
        connection.executemany(
            "INSERT INTO answers (job, id, key, value, at) VALUES (1, ?, ?, '1', 1.0)",
            [("a", bytes(16)), ("a", bytes([1]) * 16), ("b", bytes(16))],
        )
        connection.execute(
            "INSERT INTO batches (job, intent, provider, model, state, rows, at)"
            " VALUES (1, 'i', 'openai', 'm', 'made', '{\"i-0\": \"00\"}', 1.0)"
        )
    first.close()
    journal = Journal(tmp_path / "run.db")
    assert journal.count() == {"x": (3, 0)}
    assert [batch.rows for batch in journal.open_batches()] == [{"i-0": "00"}]
    assert journal.compact() == 1, "the same key twice"
    with pytest.raises(StateError, match="version 3"), first.read():
        pass


COMPACT = (
    "import sys\nfrom mellea.batch import Journal\njournal = Journal(sys.argv[1])\nwhile True:\n    journal.compact()"
)


@contextmanager
def compacting(path: Path, way: str, journal: Journal) -> Iterator[None]:
    """Compact a journal over and over, in another process, or in a thread with its own journal or the shared one."""
    if way == "process":
        process = subprocess.Popen([sys.executable, "-c", COMPACT, str(path)], env={**os.environ})
        try:
            yield
        finally:
            assert process.poll() is None, "it goes on, too"
            process.kill()
            process.wait()
        return
    own, ends = journal if way == "shared" else Journal(path), threading.Event()

    def compact() -> None:
        while not ends.is_set():
            own.compact()

    thread = threading.Thread(target=compact)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


@pytest.mark.parametrize("way", ["process", "thread", "shared"])
def test_a_map_goes_on_beside_compactions_without_a_pause(tmp_path: Path, way: str) -> None:
    path = tmp_path / "run.db"
    journal = Journal(path)
    job = journal.job("large")
    for begin in range(0, 40_000, 4000):
        journal.commit([Answer(job, str(n), os.urandom(16), "1", None, 0.0, 1.0) for n in range(begin, begin + 4000)])
    session = mellea.MelleaSession(ScriptedBackend("fine"))
    with compacting(path, way, journal):
        for version in "abc":
            rows = list(map_rows(session.instruct, [f"r{n}" for n in range(200)], journal=journal, version=version))
            assert [row.error for row in rows] == [None] * 200
    journal.compact()
    assert len(list(journal.answers("mellea.instruct"))) == 200
