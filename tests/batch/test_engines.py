"""Engines: each gives its workers parts of the rows, and nothing that was committed is asked for again."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea.batch import Journal
from mellea.batch.partition import Partition, list_rows
from mellea.errors import GenerationCancelledError, UsageError
from mellea.testing import ScriptedBackend
from tests.batch.engine_functions import CLASSIFY, LINGER, SPEND, classify, shout
from tests.batch.engine_program import PLACES, ROWS
from tests.waiting import until_here

ROOT = Path(__file__).parents[2]

PACKAGES = {"ray": "ray", "dask": "distributed", "spark": "pyspark"}
KINDS = {row["number"]: {"kind": row["text"].split()[-1], "urgency": 3} for row in ROWS}
WORDS = [kind["kind"] for kind in KINDS.values()]


@pytest.fixture(scope="module", params=PACKAGES)
def tried(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `engine_program.py` has tried on a cluster of two workers."""
    engine: str = request.param
    if importlib.util.find_spec(PACKAGES[engine]) is None:
        pytest.skip(f"{PACKAGES[engine]} isn't installed; the group engines has it")
    if engine == "spark" and shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("Spark needs Java 17 or later")
    folder = tmp_path_factory.mktemp(engine)
    # As if a run before had been killed: a part of the rows is committed.
    list(Partition(CLASSIFY, folder / "begun.db", "number")(ROWS[:20]))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "MELLEA_TEST_CALLS": str(folder / "calls"),
        "MELLEA_TEST_KILL": str(folder / "kill"),
        "PYSPARK_PYTHON": sys.executable,
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_raylet_start_wait_time_s": "240",  # on a busy machine
    }
    command = [sys.executable, "-m", "tests.batch.engine_program", engine, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, cwd=folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return dict(json.loads((folder / "tried.json").read_text()))


def values(found: list[dict[str, Any]]) -> dict[str, Any]:
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: json.loads(row["value"]) for row in found}


def test_an_engine_maps_rows_on_two_workers_and_repeats_nothing(tried: dict[str, Any]) -> None:
    continued = tried["continued"]
    assert values(continued["found"]) == KINDS
    assert sorted(continued["calls"]) == sorted(WORDS[20:])
    assert sum(row["cached"] for row in continued["found"]) == 20


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill")
@pytest.mark.parametrize("name", ["killed", "killed in parts"])
def test_a_killed_worker_costs_at_most_what_was_in_flight(name: str, tried: dict[str, Any]) -> None:
    assert values(tried[name]["found"]) == KINDS
    made = Counter(tried[name]["calls"])
    assert set(made) == set(WORDS)
    assert made["k40"] == 2, "the worker was killed that had asked for it"
    assert made.total() <= 60 + 2 * PLACES, "both workers' rows in flight, since an engine may stop the other one, too"


def test_what_parts_have_answered_is_found_however_the_rows_are_cut(tried: dict[str, Any]) -> None:
    again = tried["cut differently"]
    assert (values(again["found"]), again["calls"]) == (KINDS, [])
    assert all(row["cached"] for row in again["found"])


def test_a_row_that_fails_is_an_outcome_and_the_job_goes_on(tried: dict[str, Any]) -> None:
    failed = {row["id"]: row for row in tried["failed"]["found"]}
    assert (failed["T-x"]["value"], failed["T-x"]["error"]) == (None, "ParseError")
    assert "no JSON" in failed["T-x"]["message"]
    assert [failed[name]["cached"] for name in ("T-0", "T-1")] == [True, True]
    assert tried["failed"]["calls"] == ["wrong"]


def test_a_function_with_a_session_is_imported_by_the_workers(tried: dict[str, Any]) -> None:
    assert values(tried["with its session"]["found"]) == {name: KINDS[name] for name in ("T-0", "T-1", "T-2")}


def test_rows_of_a_generator_arrive_as_they_are(tried: dict[str, Any]) -> None:
    first, again = tried["generator"], tried["generator again"]
    assert values(first["found"]) == values(again["found"]) == {"a": "A", "b": "BB", "c": "CCC"}
    assert (sorted(first["calls"]), again["calls"]) == (["a", "b", "c"], [])


def test_rows_beyond_a_budget_are_told(tried: dict[str, Any]) -> None:
    budget = tried["budget"]
    assert sorted(row["id"] for row in budget["found"]) == sorted(row["number"] for row in ROWS[:15])
    assert {row["error"] for row in budget["found"]} == {"BudgetExceededError"}
    assert budget["calls"] == []


@pytest.mark.parametrize("engine", PACKAGES)
def test_a_budget_for_all_tasks_is_refused_instead_of_spent_by_each(engine: str) -> None:
    module = importlib.import_module(f"mellea.batch.engines.{engine}")
    with pytest.raises(UsageError, match=r"budget_per_task=.* divide what you want to spend by their number"):
        module.map(CLASSIFY, ROWS, id="number", budget=mellea.Budget(cost=5))


def test_each_task_may_spend_its_budget() -> None:
    partition = Partition(SPEND, None, "number", concurrency=1, budget_per_task=mellea.Budget(tokens=500))
    for part in (ROWS[:30], ROWS[30:]):
        assert [row["error"] for row in partition(part)] == [None] * 5 + ["BudgetExceededError"] * 25


def test_parts_keep_journals_of_their_own_which_are_merged(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    partition = Partition(CLASSIFY, folder, "number")
    for begin in range(0, 60, 15):
        assert [row["cached"] for row in partition(ROWS[begin : begin + 15])] == [False] * 15
    assert len(list(folder.glob("part-*.db"))) == 4
    assert all(row["cached"] for row in partition(ROWS[:15])), "the same part finds its file again"
    assert all(row["cached"] for row in partition(ROWS[14::-1])), "in whatever order its rows come"
    whole = Journal(tmp_path / "whole.db")
    assert whole.merge(*sorted(folder.glob("part-*.db"))) == 60
    assert all(row["cached"] for row in Partition(CLASSIFY, tmp_path / "whole.db", "number")(ROWS))
    assert whole.merge(*folder.glob("part-*.db"), only_new=True) == 0


def test_a_job_begins_with_what_all_parts_have_answered(tmp_path: Path) -> None:
    folder = f"{tmp_path / 'parts'}/"
    for size in (7, 20, 60):
        partition = Partition(CLASSIFY, folder, "number")
        found = [row for begin in range(0, 30, size) for row in partition(ROWS[:30][begin : begin + size])]
        assert [row["cached"] for row in found] == [size != 7] * 30
    changed = list(Partition(CLASSIFY, folder, "number", version="2")(ROWS[:30]))
    assert not any(row["cached"] for row in changed)
    assert all(row["cached"] for row in Partition(CLASSIFY, folder, "number")(ROWS[:31])) is False
    assert Journal(tmp_path / "parts" / "all.db").count() == {"tests.batch.engine_functions.classify": (60, 0)}


def test_failures_of_parts_are_kept_once(tmp_path: Path) -> None:
    folder = f"{tmp_path / 'parts'}/"
    for _ in range(3):
        list(Partition(CLASSIFY, folder, "number")([ROWS[0], {"number": "T-x", "text": "wrong"}]))
    Partition(CLASSIFY, folder, "number")
    whole = Journal(tmp_path / "parts" / "all.db")
    assert whole.count() == {"tests.batch.engine_functions.classify": (1, 3)}, "each run has asked for it once"
    assert [row["id"] for row in whole.failures()] == ["T-x"]


def test_a_folder_that_a_machine_has_not_is_told(tmp_path: Path) -> None:
    partition = Partition(CLASSIFY, f"{tmp_path / 'parts'}/", "number")
    (tmp_path / "parts").rmdir()
    with pytest.raises(UsageError, match="isn't on this machine"):
        list(partition(ROWS))


def test_a_journal_is_found_from_the_folder_where_a_worker_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    partition = Partition(CLASSIFY, "run.db", "number")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    list(partition(ROWS[:1]))
    assert (tmp_path / "run.db").exists()


def test_a_row_without_an_id_fails_alone(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    found = list(Partition(CLASSIFY, folder, "number")([ROWS[0], {"text": "mail k1"}, ROWS[2]]))
    assert [row["error"] for row in found] == [None, "UsageError", None]


def test_an_outcome_is_made_of_plain_values() -> None:
    def fail(text: str) -> str:
        raise LookupError(f"no {text}")

    [row] = Partition(fail, None, "id", version="1")([{"id": "a", "text": "x"}])
    assert (row["value"], row["error"], row["message"], row["cost"]) == (None, "LookupError", "no x", 0.0)


def test_a_part_that_its_engine_does_not_want_any_more_ends_at_once() -> None:
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    with pytest.raises(GenerationCancelledError):
        list(Partition(LINGER, id="number")(ROWS, cancelled.is_set))


@pytest.mark.parametrize("how", ["cancelled", "closed"])
def test_a_task_of_dask_that_is_cancelled_stops_its_requests(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask itself lets it run to its end, and a worker that closes waits for it."""
    distributed = pytest.importorskip("distributed", reason="Dask isn't installed; the group engines has it")
    from mellea.batch.engines import dask as engine

    calls = tmp_path / "calls"
    monkeypatch.setenv("MELLEA_TEST_CALLS", str(calls))
    settings = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    cluster = distributed.LocalCluster(**settings)
    client = distributed.Client(cluster)
    try:
        [worker] = cluster.workers.values()
        future = client.compute(engine.map(LINGER, ROWS, id="number", concurrency=4, partition_size=60))
        until_here(calls.exists)
        if how == "cancelled":
            future.cancel()
            until_here(lambda: not worker.active_threads)
            assert len(calls.read_text().split()) <= 4
    finally:
        client.close()
        cluster.close()
    until_here(lambda: not any(thread.name == "mellea-partition" for thread in threading.enumerate()))


def test_a_partition_can_be_sent() -> None:
    partition = Partition(CLASSIFY, "run.db", "number", concurrency=3)
    assert pickle.loads(pickle.dumps(partition)) == partition
    sent = pickle.loads(pickle.dumps(Partition(classify, id="number")))
    assert [json.loads(row["value"]) for row in sent(ROWS[:2])] == [KINDS["T-0"], KINDS["T-1"]]


def test_a_plain_function_is_sent_with_what_identifies_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker on another machine has no source to identify it by."""
    rows = [{"word": "a", "times": 2}]
    [first] = mellea.map(shout, rows, id="word", journal=tmp_path / "run.db")
    sent = pickle.dumps(Partition(shout, tmp_path / "run.db", "word"))
    monkeypatch.setattr("linecache.getlines", lambda *_: [])
    [row] = pickle.loads(sent)(rows)
    assert (json.loads(row["value"]), row["cached"]) == (first.value, True)


def test_a_session_can_not_be_sent() -> None:
    session = mellea.MelleaSession(ScriptedBackend("x"))
    with pytest.raises(UsageError, match=r"sessions stay in their process.*package\.module:name"):
        Partition(session.instruct, id="number")


def test_rows_for_an_engine_are_those_that_map_takes(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("number,text\nT-0,mail\n")
    assert list_rows(tmp_path / "rows.csv") == [{"number": "T-0", "text": "mail"}]
    assert list_rows(row for row in "ab") == ["a", "b"]
    with pytest.raises(UsageError, match="not one dict"):
        list_rows({"number": "T-0"})


def test_a_partition_takes_an_id_and_a_function() -> None:
    with pytest.raises(UsageError, match="id="):
        Partition(CLASSIFY)
    with pytest.raises(UsageError, match=r"package\.module:name"):
        Partition("classify", id="number")
    with pytest.raises(UsageError, match="concurrency="):
        Partition(CLASSIFY, id="number", concurrency=0)
    with pytest.raises(UsageError, match="nowhere"):
        list(Partition("nowhere:classify", id="number")(ROWS))


def test_a_small_part_whose_rows_all_fail_for_one_reason_ends_no_other_part() -> None:
    outcomes = list(Partition(CLASSIFY, None, "number")([{"number": 1, "letter": "x"}, {"number": 2, "letter": "y"}]))
    assert [outcome["id"] for outcome in outcomes] == ["1", "2"]
    assert {outcome["error"] for outcome in outcomes} == {"UsageError"}
