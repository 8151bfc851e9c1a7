"""Engines: each gives its workers parts of the rows, and nothing that was committed is asked for again."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mellea.batch import Journal
from mellea.batch.partition import Partition
from mellea.errors import UsageError
from tests.batch.engine_functions import CLASSIFY

ROOT = Path(__file__).parents[2]

ROWS = [{"number": f"T-{number}", "text": f"mail k{number}"} for number in range(60)]

RAY = """
import sys
import ray
from mellea.batch.engines import ray as engine
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
ray.data.DataContext.get_current().enable_progress_bars = False
rows = ray.data.from_items(ROWS, override_num_blocks=4)
found = engine.map(CLASSIFY, rows, id="number", journal=sys.argv[1], concurrency=8, batch_size=15).take_all()
ray.shutdown()
"""
DASK = """
import sys
from dask.distributed import Client, LocalCluster
from mellea.batch.engines import dask as engine
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        bag = engine.map(CLASSIFY, ROWS, id="number", journal=sys.argv[1], concurrency=8, partition_size=15)
        found = bag.compute()
"""
SPARK = """
import sys
from pyspark.sql import SparkSession
from mellea.batch.engines import spark as engine

spark = SparkSession.builder.master("local[2,4]").config("spark.driver.host", "127.0.0.1")
spark = spark.config("spark.ui.enabled", "false").config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
rows = spark.createDataFrame(ROWS).repartition(4)
found = engine.map(CLASSIFY, rows, id="number", journal=sys.argv[1], concurrency=8).collect()
spark.stop()
"""
HEAD = "import json\nfrom tests.batch.engine_functions import CLASSIFY\nfrom tests.batch.test_engines import ROWS\n"
TAIL = "\nif __name__ == '__main__':\n    print(json.dumps([dict(each) for each in found]))\n"
ENGINES = {"ray": ("ray", RAY), "dask": ("distributed", DASK), "spark": ("pyspark", SPARK)}


def run(engine: str, journal: Path, folder: Path, *, is_killed: bool = False) -> list[dict[str, Any]]:
    package, program = ENGINES[engine]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} isn't installed; the group engines has Ray and Dask")
    if engine == "spark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    path = folder / f"{engine}_program.py"
    path.write_text(HEAD + program + TAIL)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "MELLEA_TEST_CALLS": str(folder / "calls"),
        "MELLEA_TEST_KILL": str(folder / "killed") if is_killed else "",
        "PYSPARK_PYTHON": sys.executable,
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_raylet_start_wait_time_s": "240",  # on a busy machine
    }
    command = [sys.executable, str(path), str(journal)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, cwd=folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return list(json.loads(done.stdout.strip().splitlines()[-1]))


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_maps_rows_on_two_workers_and_repeats_nothing(engine: str, tmp_path: Path) -> None:
    # As if a run before had been killed: a part of the rows is committed.
    list(Partition(CLASSIFY, tmp_path / "run.db", "number")(ROWS[:20]))
    found = run(engine, tmp_path / "run.db", tmp_path)
    assert sorted(row["id"] for row in found) == sorted(row["number"] for row in ROWS)
    values = {row["id"]: json.loads(row["value"]) for row in found}
    assert values == {f"T-{number}": {"kind": f"k{number}", "urgency": 3} for number in range(60)}
    assert sorted(calls(tmp_path)) == sorted(f"k{number}" for number in range(20, 60))
    assert sum(row["cached"] for row in found) == 20


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_costs_at_most_what_was_in_flight(engine: str, tmp_path: Path) -> None:
    found = run(engine, tmp_path / "run.db", tmp_path, is_killed=True)
    assert sorted(row["id"] for row in found) == sorted(row["number"] for row in ROWS)
    assert (tmp_path / "killed").exists(), "a worker was killed"
    made = calls(tmp_path)
    assert set(made) == {f"k{number}" for number in range(60)}
    assert len(made) <= 60 + 2 * 8, "both workers' rows in flight, since an engine may stop the other one, too"


def test_parts_keep_journals_of_their_own_which_are_merged(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    partition = Partition(CLASSIFY, folder, "number")
    for begin in range(0, 60, 15):
        assert [row["cached"] for row in partition(ROWS[begin : begin + 15])] == [False] * 15
    assert len(list(folder.glob("part-*.db"))) == 4
    assert all(row["cached"] for row in partition(ROWS[:15])), "the same part finds its file again"
    whole = Journal(tmp_path / "whole.db")
    assert whole.merge(*sorted(folder.glob("part-*.db"))) == 60
    assert all(row["cached"] for row in Partition(CLASSIFY, tmp_path / "whole.db", "number")(ROWS))


def test_an_outcome_is_made_of_plain_values() -> None:
    def fail(text: str) -> str:
        raise LookupError(f"no {text}")

    [row] = Partition(fail, None, "id", version="1")([{"id": "a", "text": "x"}])
    assert (row["value"], row["error"], row["message"], row["cost"]) == (None, "LookupError", "no x", 0.0)


def test_a_partition_can_be_sent() -> None:
    partition = Partition(CLASSIFY, "run.db", "number", concurrency=3)
    assert pickle.loads(pickle.dumps(partition)) == partition


def test_a_partition_takes_an_id_and_a_function() -> None:
    with pytest.raises(UsageError, match="id="):
        Partition(CLASSIFY)
    with pytest.raises(UsageError, match=r"package\.module:name"):
        Partition("classify", id="number")
    with pytest.raises(UsageError, match="nowhere"):
        list(Partition("nowhere:classify", id="number")(ROWS))
