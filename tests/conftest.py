"""Every async test runs on asyncio and on trio, and no example of a property is too slow for a busy machine."""

import gc
import os
import re
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.backends.recorded import TALLY, summary
from tests.bytecode import share_bytecode
from tests.soak import examples, is_thorough, spread

# A shell starts its background jobs with SIGINT ignored, and a program inherits that. With a handler here instead, the
# programs that the tests start can be interrupted wherever the tests run.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

share_bytecode(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")

settings.register_profile("mellea", deadline=None, max_examples=examples(100))
settings.load_profile("mellea")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


# What thousands of collected tests are made of stays until the end, and so does what a module imports and keeps. Out of
# the collector's sight it doesn't make each `gc.collect()` of a test take a tenth of a second.
@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    global _file
    if item.path != _file:
        _file = item.path
        gc.collect()  # nothing that can be freed is kept for good
        gc.freeze()


_file: Path | None = None
"""The file whose tests are run."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run two workers more than there are processors: many tests wait for a server, a process or a clock."""
    return 2 + (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


# Files whose tests take seconds, the slowest first: they wait for programs, or for the embedded model.
_SLOW = (
    "docs/test_fences.py",
    "stdlib/tools/mcp/test_connection.py",
    "web/test_page_in_a_browser.py",
    "docs/test_examples.py",
    "batch/test_batches.py",
    "core/test_process.py",
    "backends/http/test_faults.py",
    "web/test_chat_page.py",
    "backends/llama_cpp/test_backend.py",
    "docs/test_coming_from.py",
    "backends/openai/test_engine.py",
    "house/test_kills.py",
    "house/test_map_campaigns.py",
    "docs/test_chat.py",
    "backends/llama_cpp/test_tools.py",
    "backends/llama_cpp/test_process.py",
    "house/test_benchmarks.py",
    "backends/anthropic/test_engine.py",
    "backends/llama_cpp/test_ends.py",
    "stdlib/test_embedded.py",
    "core/structured/test_embedded.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the tests of this run out to the workers."""
    _leave_out(config, items)
    _deal_out(config, items)


def _leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what CI alone tries, as `tests/soak.py` says; `scripts/soak` and CI run everything."""
    if is_thorough() or any("::" in argument for argument in config.args):
        return
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("thorough"):
            cases.setdefault("", []).append(item)
        elif item.get_closest_marker("sample"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
        elif item.get_closest_marker("one_loop"):
            cases.setdefault(re.sub(r"\b(asyncio|trio)\b", "", item.nodeid), []).append(item)
    left_out = set(cases.pop("", ()))
    for name, found in cases.items():
        sample = found[0].get_closest_marker("sample")
        left_out.update(set(found).difference(spread(found, sample.args[0] if sample else 1, name)))
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=list(left_out))


def _deal_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the slow files out to the workers, each of which begins with its own.

    A worker gets a part of the list, in order, and one that has nothing left takes from the end of another's part. With
    the slow tests there the others would stand idle at the end of a run, while the last ones finish.
    """
    count = int(getattr(config, "workerinput", {}).get("workercount", 1))
    if count == 1:
        return
    rank = {name: place for place, name in enumerate(_SLOW)}
    found: dict[int, list[pytest.Item]] = {}
    quick = []
    for item in items:
        place = rank.get(item.path.relative_to(item.config.rootpath / "tests").as_posix())
        (quick if place is None else found.setdefault(place, [])).append(item)
    slow = [found[place] for place in sorted(found)]
    size = len(items) // count
    dealt: list[pytest.Item] = []
    for worker in range(count):
        own = [item for file in slow[worker::count] for item in file]
        wanted = max(0, size - len(own)) if worker < count - 1 else len(quick)
        dealt += [*own, *quick[:wanted]]
        del quick[:wanted]
    items[:] = dealt


# What a run of the recorded traffic has tried, all workers together. It stands here since the process that prints the
# end of a parallel run collects no tests, and so reads no other conftest.


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["recorded traffic"] = dict(TALLY)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    TALLY.update(getattr(node, "workeroutput", {}).get("recorded traffic", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not is_thorough():
        terminalreporter.write_line("Properties and slow tests tried a part of their cases; MELLEA_SOAK=1 tries all.")
    if line := summary():
        terminalreporter.write_line(line)
