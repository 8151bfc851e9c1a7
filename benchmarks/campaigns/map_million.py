"""A million typed rows with a journal, on a model that answers at once: speed, memory, threads, the journal's share.

    uv run python -m benchmarks.campaigns.map_million                 # 1,000,000 rows: some minutes
    uv run python -m benchmarks.campaigns.map_million 20000

Checked: the memory at each tenth of the rows is about that at the first, the threads are no more, all rows come in
order; and the journal's share of the time is below a tenth. That is what its thread uses, and what making keys, values
and entries, and claiming rows, takes on the loop.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mellea
from mellea.batch import call_programs, claims, journal_thread
from mellea.core.backend import Backend, Capabilities, Request
from mellea.core.events import Event, StreamEnd, TextDelta, Usage, UsageEvent

MOST_GROWTH = 20.0
"""Of the memory, from a tenth of the rows to the end, in megabytes."""


class AtOnce(Backend):
    """A model that answers at once, and keeps nothing."""

    name = "at_once"
    model_id = "m"
    capabilities = Capabilities(structured_output="native")

    async def run(self, request: Request) -> AsyncIterator[Event]:
        yield TextDelta('{"kind": "bill", "urgency": 3}')
        yield UsageEvent(Usage(20, 10))
        yield StreamEnd("stop", model="m")


@dataclass
class Mail:
    kind: str
    urgency: int


def measure(owner: Any, name: str, clock: Callable[[], float], spent: list[float]) -> None:
    """Have a method's time added up."""
    inner = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        began = clock()
        try:
            return inner(*args, **kwargs)
        finally:
            spent[0] += clock() - began

    setattr(owner, name, timed)


def memory() -> float:
    """Return the megabytes that the process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


LEAST_ROWS_TO_COMPARE = 100_000


def main(rows: int) -> None:
    session = mellea.MelleaSession(AtOnce())

    @mellea.generative(session=session)
    def classify(text: str) -> Mail:
        """Classify a mail."""

    spent = [0.0]
    measure(journal_thread.JournalThread, "_handle", time.thread_time, spent)
    measure(journal_thread.JournalThread, "commit", time.thread_time, spent)
    measure(call_programs.PromptProgram, "dump", time.thread_time, spent)
    measure(call_programs.PromptProgram, "_digest", time.thread_time, spent)
    measure(claims.Claims, "take", time.thread_time, spent)
    measure(claims.Claims, "release", time.thread_time, spent)
    list(mellea.map(classify, ["warm"] * 1000))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.db"
        source = (f"mail {number}" for number in range(rows))
        began, cpu, spent[0] = time.monotonic(), time.process_time(), 0.0
        moments: list[float] = []  # the memory at each tenth
        most = 0
        for number, row in enumerate(mellea.map(classify, source, journal=path)):
            if row.error is not None or row.index != number:
                raise AssertionError(f"row {number}: {row}")
            if number % 1000 == 0:
                most = max(most, threading.active_count())
            if number and number % (rows // 10) == 0:
                moments.append(memory())
        took, used = time.monotonic() - began, time.process_time() - cpu
        moments.append(memory())
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    share = spent[0] / used
    print(f"{rows:,} rows in {took:.0f} s: {rows / took:,.0f} a second, {rows / used:,.0f} a second of CPU")
    print(f"MB at each tenth: {', '.join(f'{each:.1f}' for each in moments)}")
    print(f"{most} threads; {size / rows:.0f} bytes a row")
    print(f"{share:.1%} of the CPU for the journal")
    # A share of a few seconds says more of what else the machine does than of the journal.
    if max(moments) > moments[0] + MOST_GROWTH or (share > 0.1 and rows >= LEAST_ROWS_TO_COMPARE):
        raise AssertionError("the memory grows, or the journal takes more than a tenth")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="?", default=1_000_000)
    main(parser.parse_args().rows)
