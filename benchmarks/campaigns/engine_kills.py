"""Kills on an engine: a map over many rows on two workers, of which one is killed (SIGKILL) at random moments.

    uv run --group engines python -m benchmarks.campaigns.engine_kills              # Ray and Dask: a minute or two
    uv run --group engines python -m benchmarks.campaigns.engine_kills --engines ray dask spark executor

`spark` kills the Python process of a worker, `executor` the JVM above it. The model is a server on loopback that counts
(`model_server.py`). Checked:

- the job ends by itself, and its outcomes are those of a run that nobody disturbs;
- in all, the server was asked at most once for each row, and once more for each place in flight at a kill. An engine
  may stop the other worker, too, so the places are those of both.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.campaigns.model_server import count, serve

MEASURE = "benchmarks.campaigns.engine_rows:measure"
"""By name, and not imported here: a process that imports it counts as a worker, which may be killed."""

PLACES = 16
"""Of each worker."""
WORKERS = 2
DELAY = 0.02
KILLED_AGAIN = 100
"""How often Spark may lose a task before it gives the job up; four by default."""


def make_rows(rows: int) -> list[dict[str, str]]:
    return [{"number": f"T-{number}", "text": f"the word w{number:05}"} for number in range(rows)]


def run_ray(rows: list[Any], part: int, **named: Any) -> list[Any]:
    import ray

    from mellea.batch.engines import ray as engine

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows) // part)
    found = engine.map(MEASURE, dataset, batch_size=part, **named).take_all()
    ray.shutdown()
    return list(found)


def run_dask(rows: list[Any], part: int, **named: Any) -> list[Any]:
    from dask import config
    from dask.distributed import Client, LocalCluster

    from mellea.batch.engines import dask as engine

    # As for Spark: a task that was on too many killed workers is given up.
    config.set({"distributed.scheduler.allowed-failures": KILLED_AGAIN})
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        return list(engine.map(MEASURE, rows, partition_size=part, **named).compute())


def run_spark(rows: list[Any], part: int, *, master: str = f"local[{WORKERS},{KILLED_AGAIN}]", **named: Any) -> Any:
    from pyspark.sql import SparkSession

    from mellea.batch.engines import spark as engine

    settings = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.task.maxFailures": str(KILLED_AGAIN),
        "spark.executor.memory": "512m",
        **{f"spark.executorEnv.{name}": os.environ[name] for name in os.environ if name.startswith("CAMPAIGN_")},
        "spark.executorEnv.PYTHONPATH": os.environ["PYTHONPATH"],
    }
    spark = SparkSession.builder.master(master).config(map=settings).getOrCreate()
    found = engine.map(MEASURE, spark.sparkContext.parallelize(rows, len(rows) // part), **named).collect()
    spark.stop()
    return found


def run_executors(rows: list[Any], part: int, **named: Any) -> Any:
    return run_spark(rows, part, master=f"local-cluster[{WORKERS},1,1024]", **named)


ENGINES: dict[str, Callable[..., Any]] = {
    "ray": run_ray,
    "dask": run_dask,
    "spark": run_spark,
    "executor": run_executors,
}


def find_parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def find_workers(folder: Path) -> list[int]:
    """Return the processes that have imported what is mapped, and live."""
    found = [int(path.name) for path in folder.iterdir()]
    return [pid for pid in found if Path(f"/proc/{pid}/stat").exists() and is_alive(pid)]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def find_victim(engine: str, worker: int) -> int:
    """Return the process that is killed: the worker, or the JVM that has started the daemon that has started it."""
    return find_parent(find_parent(worker)) if engine == "executor" else worker


def kill_workers(process: subprocess.Popen[bytes], engine: str, folder: Path, address: str, targets: list[int]) -> int:
    """Kill a worker whenever the server has had so many requests; returns how many were killed."""
    killed = 0
    for target in targets:
        while count(address)["received"] < target or not find_workers(folder):
            if process.poll() is not None:
                return killed
            time.sleep(0.005)
        victim = find_victim(engine, random.choice(find_workers(folder)))
        os.kill(victim, signal.SIGKILL)
        killed += 1
        before = count(address)["received"]
        # The next kill only once the engine goes on: what is killed while nothing is in flight shows nothing.
        while process.poll() is None and count(address)["received"] < before + WORKERS * PLACES:
            time.sleep(0.005)
    return killed


def campaign(engine: str, rows: int, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    targets = sorted(chance.sample(range(rows // 20, rows - rows // 20), kills))
    with tempfile.TemporaryDirectory() as name, serve("--delay", str(DELAY)) as address:
        folder = Path(name)
        (folder / "workers").mkdir()
        environment = {
            **os.environ,
            "CAMPAIGN_ADDRESS": address,
            "CAMPAIGN_WORKERS": str(folder / "workers"),
            "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]),
            "PYSPARK_PYTHON": sys.executable,
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        }
        command = [sys.executable, "-m", "benchmarks.campaigns.engine_kills", "--run", engine, str(folder), str(rows)]
        began = time.monotonic()
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
        ):
            killed = kill_workers(process, engine, folder / "workers", address, targets)
        took = time.monotonic() - began
        if process.returncode != 0:
            raise AssertionError(f"{engine}: the job failed:\n{(folder / 'log').read_text()[-4000:]}")
        asked = count(address)["received"]
        found = {row["id"]: (row["value"], row["error"]) for row in json.loads((folder / "found.json").read_text())}
    judge(engine, rows, killed, asked, found, took)


def judge(engine: str, rows: int, killed: int, asked: int, found: dict[str, Any], took: float) -> None:
    most = killed * WORKERS * PLACES
    print(f"{engine}: {rows:,} rows, {killed} kills, {asked - rows} requests beyond, at most {most}; {took:.0f} s")
    wanted = {
        row["number"]: ({"word": row["text"].split()[-1], "length": len(row["text"].split()[-1])}, None)
        for row in make_rows(rows)
    }
    if {id: (json.loads(value), error) for id, (value, error) in found.items()} != wanted:
        raise AssertionError(f"{engine}: the outcomes are not those of an undisturbed run")
    if not 0 <= asked - rows <= most:
        raise AssertionError(f"{engine}: more was asked again than was in flight")


def main(engines: list[str], rows: int, kills: int, seed: int) -> None:
    for engine in engines:
        if engine in ("spark", "executor") and shutil.which("java") is None:
            print(f"{engine}: left out, since there is no Java here")
            continue
        campaign(engine, rows, kills, seed)


def run(engine: str, folder: Path, rows: int) -> None:
    found = ENGINES[engine](
        make_rows(rows), max(1, rows // 8), id="number", journal=str(folder / "run.db"), concurrency=PLACES
    )
    (folder / "found.json").write_text(json.dumps([dict(row) for row in found]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="?", default=4000)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["ray", "dask"])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run(given.run[0], Path(given.run[1]), int(given.run[2]))
    else:
        main(given.engines, given.rows, given.kills, given.seed)
