"""One cluster of two workers, and what is tried on it: `python -m tests.batch.engine_program ENGINE FOLDER`.

A cluster takes seconds to start, so all of an engine's tests read what one run has written.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mellea
from tests.batch.engine_functions import CLASSIFY, classify, make_tuples, shout

PLACES = 8
ROWS = [{"number": f"T-{number}", "text": f"mail k{number}"} for number in range(60)]

Map = Callable[..., list[dict[str, Any]]]
"""Maps a function over rows, in tasks of so many, and returns the outcomes."""


@contextmanager
def ray_cluster() -> Iterator[Map]:
    import ray

    from mellea.batch.engines import ray as engine

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield lambda function, rows, size=15, **named: engine.map(function, rows, batch_size=size, **named).take_all()
    ray.shutdown()


@contextmanager
def dask_cluster() -> Iterator[Map]:
    from dask.distributed import Client, LocalCluster

    from mellea.batch.engines import dask as engine

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        yield lambda function, rows, size=15, **named: list(
            engine.map(function, rows, partition_size=size, **named).compute()
        )


@contextmanager
def spark_cluster() -> Iterator[Map]:
    from pyspark.sql import SparkSession

    from mellea.batch.engines import spark as engine

    settings = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.default.parallelism": "4",
        # On a busy machine a worker takes longer to start and to answer than the usual 15 s.
        "spark.python.authenticate.socketTimeout": "240s",
        "spark.network.timeout": "600s",
        "spark.executor.heartbeatInterval": "60s",
    }
    session = SparkSession.builder.master("local[2,20]").config(map=settings).getOrCreate()

    def run(function: Any, rows: Any, size: int = 15, **named: Any) -> list[dict[str, Any]]:
        if isinstance(rows, list):
            rows = session.createDataFrame(rows).repartition(max(1, len(rows) // size))
        found = engine.map(function, rows, **named).toDF(engine.SCHEMA)
        return [row.asDict() for row in found.collect()]

    yield run
    session.stop()


CLUSTERS = {"ray": ray_cluster, "dask": dask_cluster, "spark": spark_cluster}


def try_all(run: Map, folder: Path) -> dict[str, Any]:
    """Return the outcomes and the words that the model was asked for, by the name of what was tried."""
    tried: dict[str, Any] = {}
    calls, parts = Path(os.environ["MELLEA_TEST_CALLS"]), folder / "parts"

    def note(name: str, function: Any, rows: Any, **named: Any) -> None:
        calls.write_text("")
        found = run(function, rows, id=named.pop("id", "number"), concurrency=PLACES, **named)
        tried[name] = {"found": found, "calls": calls.read_text().split()}

    note("continued", CLASSIFY, ROWS, journal=folder / "begun.db")
    Path(os.environ["MELLEA_TEST_KILL"]).touch()
    note("killed", CLASSIFY, ROWS, journal=folder / "killed.db")
    Path(os.environ["MELLEA_TEST_KILL"]).touch()
    note("killed in parts", CLASSIFY, ROWS, journal=f"{parts}/")
    note("cut differently", CLASSIFY, ROWS[::-1], journal=parts, size=25)
    note("failed", CLASSIFY, [*ROWS[:2], {"number": "T-x", "text": "wrong"}], journal=parts)
    note("with its session", classify, ROWS[:3])
    note("generator", shout, make_tuples(), id=lambda row: row[0], journal=parts)
    note("generator again", shout, make_tuples(), id=lambda row: row[0], journal=parts)
    note("budget", CLASSIFY, ROWS[:15], budget_per_task=mellea.Budget(seconds=1e-9))
    return tried


def main(engine: str, folder: Path) -> None:
    with CLUSTERS[engine]() as run:
        (folder / "tried.json").write_text(json.dumps(try_all(run, folder)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
