"""The file that has the latest state, and the list of those that were resumed."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mellea.errors import StateError, UsageError
from mellea.stdlib.agents.checkpoint import replace_file
from mellea.stdlib.agents.resume_store import ResumeStore


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    for text in ("first", "second, and longer", "3 ü"):
        replace_file(file, text)
        assert file.read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_readers_see_one_text_or_the_other(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    texts = ["a" * 100_000, "b" * 100_000]
    replace_file(file, texts[0])
    is_over = threading.Event()

    def read() -> set[str]:
        seen = set()
        while not is_over.is_set():
            seen.add(file.read_text())
        return seen

    with ThreadPoolExecutor() as pool:
        reader = pool.submit(read)
        writers = [pool.submit(lambda text=text: [replace_file(file, text) for _ in range(10)]) for text in texts]
        for writer in writers:
            writer.result()
        is_over.set()
        assert reader.result() <= set(texts)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    replace_file(file, "old")
    with pytest.raises(UnicodeEncodeError):
        replace_file(file, "\ud800")
    assert file.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.skipif(os.name == "nt", reason="permissions are others there")
def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    replace_file(tmp_path / "run.json", "x")
    assert (tmp_path / "run.json").stat().st_mode & 0o777 == 0o600


# -- the store ---------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> ResumeStore:
    return ResumeStore(tmp_path / "resumes.db")


def refused(store: ResumeStore, state: str) -> None:
    with pytest.raises(UsageError, match=f"the state '{state}' was resumed already"):
        store.claim(state, "other", "run")


def test_a_state_whose_claim_was_used_cant_be_resumed_again(store: ResumeStore) -> None:
    store.claim("a", "b", "run")
    store.use("a", "b")
    refused(store, "a")
    store.claim("b", "c", "run")
    store.use("b", "c")
    refused(store, "b")


def test_a_claim_that_was_never_used_is_superseded_and_so_is_the_state_that_it_saved(store: ResumeStore) -> None:
    store.claim("a", "b", "run")  # killed here, perhaps after it has saved b
    store.claim("a", "c", "run")
    with pytest.raises(UsageError, match="was resumed already"):
        store.use("a", "b")
    store.use("a", "c")
    refused(store, "b")
    store.claim("c", "d", "run")


def test_resuming_the_state_that_an_unused_claim_has_saved_uses_the_claim(store: ResumeStore) -> None:
    store.claim("a", "b", "run")  # killed here, after it has saved b
    store.claim("b", "c", "run")
    refused(store, "a")
    store.use("b", "c")


def test_of_many_that_claim_one_state_at_once_one_goes_on(tmp_path: Path) -> None:
    def resume(number: int) -> bool:
        store = ResumeStore(tmp_path / "resumes.db")
        try:
            store.claim("a", f"b{number}", "run")
            store.use("a", f"b{number}")
        except UsageError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(resume, range(8))) == 1


def test_another_database_isnt_taken_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database " * 100)
    with pytest.raises(StateError, match="is not a sound SQLite database"):
        ResumeStore(tmp_path / "text.db").claim("a", "b", "run")
