"""Rate limits: four processes map rows with one journal against a server that enforces requests and tokens a minute.

    uv run python -m benchmarks.campaigns.map_rates                  # 60 seconds
    uv run python -m benchmarks.campaigns.map_rates --seconds 20

The server (`model_server.py`) allows 3,000 requests and 75,000 tokens a minute, in steady buckets of a second; its
headers say so, nobody else does. A request takes 30 tokens, so that the tokens are the tighter limit, of 2,500 requests
a minute. Checked, once all processes have begun: above 95 % of what is allowed was asked; and under 2 % of all requests
were refused, the first ones included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mellea
from benchmarks.campaigns.model_server import TOKENS, count, serve
from mellea.backends.openai import OpenAIBackend
from mellea.batch import Budget, BudgetExceededError

PROCESSES = 4
REQUESTS, TOKENS_A_MINUTE = 3_000, 75_000
WARM_UP = 5.0


def run(address: str, journal: str, name: str, seconds: float) -> None:
    """Map rows for so long."""
    backend = OpenAIBackend("m", base_url=f"{address}/v1", api_key="-")
    session = mellea.MelleaSession(backend)
    source = (f"the word {name}{number}" for number in range(10**9))
    try:
        for row in mellea.map(
            session.instruct, source, id=lambda row: row, journal=journal, budget=Budget(seconds=seconds)
        ):
            if row.error is not None:
                print(repr(row.error)[:200], file=sys.stderr)
    except BudgetExceededError:
        return


def main(seconds: float) -> None:
    limits = ["--requests", str(REQUESTS), "--tokens", str(TOKENS_A_MINUTE), "--burst", "1", "--delay", "0.05"]
    with tempfile.TemporaryDirectory() as folder, serve(*limits) as address:
        command = [
            sys.executable,
            "-m",
            "benchmarks.campaigns.map_rates",
            "--run",
            address,
            str(Path(folder) / "run.db"),
        ]
        processes = [
            subprocess.Popen([*command, f"p{number}x", str(seconds + 2 * WARM_UP)]) for number in range(PROCESSES)
        ]
        while not count(address)["received"]:
            time.sleep(0.05)
        time.sleep(WARM_UP)  # all processes have begun, and know the limits
        first, began = count(address), time.monotonic()
        time.sleep(seconds)
        last, took = count(address), time.monotonic() - began
        for process in processes:
            process.wait()
    asked, refused = last["answered"] - first["answered"], last["refused"] - first["refused"]
    allowed = min(REQUESTS, TOKENS_A_MINUTE / TOKENS) * took / 60
    share, refusals = asked / allowed, last["refused"] / max(last["received"], 1)
    print(f"{asked:,} answers in {took:.0f} s, {share:.1%} of what is allowed")
    print(f"{refused:,} refusals, {last['refused']:,} with the start: {refusals:.2%} of all requests")
    if share < 0.95 or refusals > 0.02:
        raise AssertionError("outside of 95 % and 2 %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run(*given.run[:3], float(given.run[3]))
    else:
        main(given.seconds)
