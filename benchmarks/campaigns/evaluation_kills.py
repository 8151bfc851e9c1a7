"""Kills: an evaluation is killed (SIGKILL) at random moments, and run again, until it has come to its end.

    uv run python -m benchmarks.campaigns.evaluation_kills                     # 1,000 cases, 8 kills: a minute or two
    uv run python -m benchmarks.campaigns.evaluation_kills 200 --kills 3

Two variants answer each case, and a model judges each answer. The models are a server on loopback that counts
(`model_server.py`). Checked:

- at each kill, the requests that the server has answered and the journal doesn't hold are at most those in flight;
- in all, the server was asked once for each answer and each verdict, and once more for each request lost at a kill;
- the report is that of a run that nobody disturbs, but for the times.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import mellea
from benchmarks.campaigns.map_kills import count_answers, kill_at
from benchmarks.campaigns.model_server import count, serve
from mellea.backends.openai import OpenAIBackend
from mellea.evaluation import Case
from mellea.stdlib.requirements import check

PLACES = 16


def run(address: str, journal: str, out: str, cases: int) -> None:
    """Evaluate two variants, and write the report and its samples, without times."""
    session = mellea.MelleaSession(OpenAIBackend("m", base_url=f"{address}/v1", api_key="-", retries=0))

    @mellea.generative(session=session)
    def short(text: str) -> str:
        """Say how long the word is."""

    @mellea.generative(session=session)
    def long(text: str) -> str:
        """Say how long the word is, and say it well."""

    def is_even(value: str, case: Case) -> bool:
        return len(value) % 2 == 0 or case.inputs.endswith("1")

    report = mellea.evaluate(
        [short, long],
        [f"the word w{number:05}" for number in range(cases)],
        checks=[is_even, check("It is a number.", judge=session)],
        journal=journal,
        concurrency=PLACES,
    )
    report = replace(report, samples=tuple(replace(sample, seconds=None) for sample in report.samples))
    report.write_jsonl(out)
    with Path(out).open("a") as file:
        file.write(str(report))


def start(address: str, folder: Path, name: str, cases: int) -> subprocess.Popen[bytes]:
    arguments = [address, str(folder / f"{name}.db"), str(folder / f"{name}.txt"), str(cases)]
    return subprocess.Popen([sys.executable, "-m", "benchmarks.campaigns.evaluation_kills", "--run", *arguments])


def main(cases: int, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    requests = 4 * cases  # two variants, each judged once
    targets = sorted(chance.sample(range(1, requests), kills))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serve() as address:
            if start(address, folder, "undisturbed", cases).wait() != 0:
                raise AssertionError("the undisturbed run failed")
            if (asked := count(address)["received"]) != requests:
                raise AssertionError(f"{asked} requests, where {requests} were needed")
        with serve() as address:
            lost: list[int] = []
            for target in targets:
                process = start(address, folder, "killed", cases)
                begun = count(address)["received"] + 1
                if not kill_at(process, address, max(target, begun), chance.uniform(0, 0.02)):
                    break
                lost.append(count(address)["received"] - sum(lost) - count_answers(folder / "killed.db"))
            if start(address, folder, "killed", cases).wait() != 0:
                raise AssertionError("the last run failed")
            beyond = count(address)["received"] - requests
        different = [
            pair
            for pair in zip(
                *[(folder / f"{each}.txt").read_text().split("\n") for each in ("undisturbed", "killed")], strict=True
            )
            if pair[0] != pair[1]
        ]
    print(f"{cases:,} cases, {requests:,} requests\n{len(lost):,} kills\n{beyond:,} requests beyond")
    print(f"{max(lost, default=0):,} most lost by a kill")
    if different:
        raise AssertionError("the report isn't that of the undisturbed run: {!r}, {!r}".format(*different[0]))
    if max(lost, default=0) > PLACES or beyond > sum(lost):
        raise AssertionError(f"more was lost than the {PLACES} in flight: {json.dumps(lost)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=int, nargs="?", default=1_000)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run(*given.run[:3], int(given.run[3]))
    else:
        main(given.cases, given.kills, given.seed)
