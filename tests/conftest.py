"""Every async test runs on asyncio and on trio, and no example of a property is too slow for a busy machine."""

import gc
import os
import signal
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

from tests.backends.recorded import TALLY, summary
from tests.soak import examples

# A shell starts its background jobs with SIGINT ignored, and a program inherits that. With a handler here instead, the
# programs that the tests start can be interrupted wherever the tests run.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("mellea", deadline=None, max_examples=examples(100))
settings.load_profile("mellea")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


# What thousands of collected tests are made of stays until the end. Kept out of the collector's sight, it doesn't make
# each `gc.collect()` of a test take a third of a second.
@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run one worker more than there are processors: many tests wait for a server, a process or a clock."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


# What a run of the recorded traffic has tried, all workers together. It stands here since the process that prints the
# end of a parallel run collects no tests, and so reads no other conftest.


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["recorded traffic"] = dict(TALLY)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    TALLY.update(getattr(node, "workeroutput", {}).get("recorded traffic", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if line := summary():
        terminalreporter.write_line(line)
