"""Whole processes: Ctrl-C, forks, loops that are closed over their runs, and the end of the program.

Each snippet runs with `-X dev -W error`, under a time limit, and must leave nothing on stderr that it
wasn't meant to.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]

PRELUDE = """
import asyncio, contextlib, gc, logging, os, signal, sys, threading, time
import anyio, anyio.to_thread
from mellea.core.backend import Request
from mellea.core.options import Deadlines
from mellea.core.runtime.portal import blocking
from mellea.core.runtime import launch as launch_run
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import *
from mellea.testing import *

logging.basicConfig(format="%(name)s: %(message)s")
logging.getLogger("asyncio").setLevel(logging.ERROR)  # not that a busy machine was slow
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is born deaf to Ctrl-C
FOREVER = Pause(float("inf"))

def launch(*script):
    global backend
    backend = ScriptedBackend(list(script))
    run = launch_run(lambda run: backend.run(Request(())), backend=backend.name, model=backend.model_id)
    return ModelOutputThunk(run)

async def abegin(*script):
    thunk = launch(*script)
    await thunk.astream()
    return thunk

async def aask(*script):
    async with launch(*script) as thunk:
        return (await thunk).value

async def ahang():
    async with launch("a", FOREVER) as thunk:
        await thunk.astream()
        print("ready")
        await thunk

begin, ask, hang = blocking(abegin), blocking(aask), blocking(ahang)
"""


@dataclass
class Outcome:
    code: int
    out: str
    err: str
    seconds: float


def run(snippet: str, *flags: str, interrupt_at: str | None = None, within: float = 60, tries: int = 4) -> Outcome:
    """Run the snippet after the prelude; send it Ctrl-C once it has printed the line `interrupt_at`.

    One that takes longer than `within` is tried again: a busy machine slows one try down, and not all of them.
    """
    for _ in range(tries):
        outcome = _run_once(snippet, *flags, interrupt_at=interrupt_at)
        if outcome.seconds < within:
            break
    return outcome


def _run_once(snippet: str, *flags: str, interrupt_at: str | None, limit: float = 60) -> Outcome:
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", *flags, "-c", PRELUDE + dedent(snippet)],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            head = ""
            if interrupt_at is not None:
                assert process.stdout is not None
                for head in process.stdout:
                    if head.strip() == interrupt_at:
                        break
                began = time.monotonic()
                process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"the process was still there after {limit} s\n{out}\n{err}")
    return Outcome(process.returncode, out, err, time.monotonic() - began)


def assert_quiet(outcome: Outcome, expected: str) -> None:
    assert (outcome.err, outcome.code, outcome.out) == ("", 0, expected)


# -- Ctrl-C -----------------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_blocking_verb_quickly_with_its_request_closed() -> None:
    outcome = run(
        """
        try:
            hang()
        except KeyboardInterrupt:
            backend.assert_closed()
            print("interrupted", len(backend.closed))
        """,
        interrupt_at="ready",
        within=3,
    )
    assert_quiet(outcome, "interrupted 1\n")
    assert outcome.seconds < 3


def test_ctrl_c_at_whatever_moment_cancels_the_verb() -> None:
    outcome = run(
        """
        import random
        began = time.monotonic()
        for number in range(60):
            chance, log = random.Random(number), []
            async def ahang():
                try:
                    log.append("begun")
                    await anyio.sleep(20)
                finally:
                    log.append("ended")
            timer = threading.Timer(chance.choice([0, 0, 0.0005, 0.002]), os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                blocking(ahang)()
            except KeyboardInterrupt:
                pass
            assert log in ([], ["begun", "ended"]), log
        print(time.monotonic() - began < 19)
        """
    )
    assert_quiet(outcome, "True\n")


def test_ctrl_c_waits_a_bounded_time_for_a_verb_that_wont_end() -> None:
    outcome = run(
        """
        async def astubborn():
            with anyio.CancelScope(shield=True):
                print("ready")
                await anyio.sleep(60)
        try:
            blocking(astubborn)()
        except KeyboardInterrupt:
            print("interrupted")
            os._exit(0)  # not to wait for it once more
        """,
        interrupt_at="ready",
        within=6,
    )
    assert (outcome.code, outcome.out) == (0, "interrupted\n")
    assert 2.5 < outcome.seconds < 6


def test_ctrl_c_that_nobody_catches_leaves_the_usual_traceback_and_no_more() -> None:
    outcome = run("hang()", interrupt_at="ready", within=3)
    assert outcome.code in (-signal.SIGINT, 130, 1)
    assert outcome.err.rstrip().endswith("KeyboardInterrupt")
    assert outcome.err.count("Traceback") == 1
    assert outcome.seconds < 3


@pytest.mark.parametrize("library", ["asyncio.run(ahang())", "__import__('trio').run(ahang)"])
@pytest.mark.sample(1)
def test_ctrl_c_in_an_async_program_closes_the_request(library: str) -> None:
    outcome = run(
        f"""
        try:
            {library}
        except KeyboardInterrupt:
            backend.assert_closed()
            print("interrupted")
        """,
        interrupt_at="ready",
    )
    assert_quiet(outcome, "interrupted\n")


# -- fork -------------------------------------------------------------------------------------------------

FORK = ("-W", "ignore:This process:DeprecationWarning")  # 3.12 says that forking with threads is a risk


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("leave", ["sys.exit(0)", "os._exit(0)"])
def test_a_blocking_verb_works_in_a_forked_child_and_in_its_parent(leave: str) -> None:
    outcome = run(
        f"""
        print(ask("parent"))
        if (child := os.fork()) == 0:
            print(ask("child"))
            {leave}
        assert os.waitpid(child, 0)[1] == 0
        print(ask("parent again"))
        """,
        *FORK,
    )
    assert_quiet(outcome, "parent\nchild\nparent again\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_generation_of_the_parent_fails_in_the_child_and_goes_on_in_the_parent() -> None:
    outcome = run(
        """
        gate = Gate()
        thunk = begin("a", gate, "b")
        if (child := os.fork()) == 0:
            try:
                thunk._compute_blocking()
            except StreamingError as error:
                print("parent process" in str(error), error.partial)
            print(ask("child"))
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        gate.open()
        print(thunk._compute_blocking().value)
        """,
        *FORK,
    )
    assert_quiet(outcome, "True a\nchild\nab\n")


# -- the end of the program -------------------------------------------------------------------------------

LOGGED = "mellea: the program ends while 1 generation(s) are running; they are cancelled\n"


def test_a_run_of_the_portal_pending_at_the_end_is_cancelled_with_one_line() -> None:
    outcome = run('thunk = begin("a", FOREVER)', within=6)
    assert (outcome.err, outcome.code) == (LOGGED, 0)
    assert outcome.seconds < 6


def test_a_run_of_the_portal_pending_at_the_end_is_closed_before_the_program_leaves() -> None:
    outcome = run(
        """
        import atexit
        thunk = begin("a", FOREVER)
        import mellea.core.runtime.portal
        atexit.unregister(mellea.core.runtime.portal._portal.stop)
        atexit.register(lambda: print(backend.closed))
        atexit.register(mellea.core.runtime.portal._portal.stop)
        """
    )
    assert (outcome.err, outcome.code, outcome.out) == (LOGGED, 0, "[True]\n")


def test_a_verb_that_looked_up_a_name_makes_no_noise_at_the_end() -> None:
    outcome = run(
        """
        async def alook():
            await anyio.getaddrinfo("localhost", 80)
            return await aask("a")
        print(blocking(alook)())
        """
    )
    assert_quiet(outcome, "a\n")


def test_a_first_verb_at_the_end_of_the_program_works_or_says_that_it_is_too_late() -> None:
    outcome = run(
        """
        import atexit
        def late():
            try:
                print(ask("a"))
            except StreamingError as error:
                print("the program is ending" in str(error))
        atexit.register(late)
        """
    )
    assert (outcome.err, outcome.code) == ("", 0)
    assert outcome.out in ("a\n", "True\n")  # from Python 3.12 on, no thread starts there


def test_a_run_pending_on_a_loop_that_is_never_closed_ends_with_one_line() -> None:
    outcome = run(
        """
        loop = asyncio.new_event_loop()
        thunk = loop.run_until_complete(abegin("a", FOREVER))
        """,
        "-W",
        "ignore::ResourceWarning",  # the loop itself is the program's to close
    )
    assert (outcome.err, outcome.code) == (LOGGED, 0)


@pytest.mark.parametrize(
    "read",
    [
        "for _ in m.stream('x'): break",
        "stream = m.stream('x')\nfor _ in stream: break",
        "stream = m.stream('x', requirements=[mellea.stdlib.requirements.check('c')], live=True)\n"
        "for _ in stream: break",
        "reader = m.stream('x').events()\nnext(reader)",
    ],
)
@pytest.mark.sample(2)
def test_a_loop_that_is_left_with_break_before_the_program_ends_makes_no_noise(read: str) -> None:
    start = "import mellea, mellea.stdlib.requirements\nm = mellea.start_session(ScriptedBackend(['a', FOREVER]))\n"
    outcome = run(start + read)
    assert (outcome.err, outcome.code) == ("", 0)


@pytest.mark.parametrize("begun", ['abegin("a", FOREVER)', "anotbegun()"])
@pytest.mark.sample(1)
def test_a_loop_that_is_closed_over_its_run_makes_no_noise(begun: str) -> None:
    outcome = run(
        f"""
        async def anotbegun():
            return launch("a", FOREVER)
        loop = asyncio.new_event_loop()
        thunk = loop.run_until_complete({begun})
        loop.close()
        gc.collect()
        try:
            asyncio.run(thunk.avalue())
        except StreamingError as error:
            print(error)
        del thunk
        gc.collect()
        """,
        within=5,
    )
    assert outcome.out.startswith("the event loop that ran this generation has been closed")
    assert (outcome.err, outcome.code) == ("", 0)
    assert outcome.seconds < 5


def test_asyncio_run_that_ends_over_its_run_makes_no_noise() -> None:
    outcome = run(
        """
        for _ in range(2):
            thunk = asyncio.run(abegin("a", FOREVER))
            backend.assert_closed()
            try:
                asyncio.run(thunk.avalue())
            except StreamingError as error:
                print(error.partial)
        import trio
        thunk = trio.run(abegin, "a", FOREVER)
        backend.assert_closed()
        """
    )
    assert_quiet(outcome, "a\na\n")


def test_a_loop_that_runs_twice_goes_on_and_one_that_stops_for_good_is_found_out_after_the_grace() -> None:
    outcome = run(
        """
        loop = asyncio.new_event_loop()
        gate = Gate()
        thunk = loop.run_until_complete(abegin("a", gate, "b", FOREVER))
        gate.open()
        loop.run_until_complete(thunk.astream())
        def read():
            began = time.monotonic()
            try:
                thunk._compute_blocking()
            except StreamingError as error:
                print(error, error.partial, 4.5 < time.monotonic() - began < 20)
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        loop.close()
        """
    )
    assert outcome.out.startswith("the event loop that ran this generation has been blocked for 5 s")
    assert outcome.out.endswith("ab True\n")
    assert (outcome.err, outcome.code) == ("", 0)


@pytest.mark.parametrize("make", ["asyncio.new_event_loop()", "__import__('uvloop').new_event_loop()"])
@pytest.mark.sample(1)
def test_a_reader_elsewhere_is_told_at_once_that_the_loop_was_closed(make: str) -> None:
    if "uvloop" in make:
        pytest.importorskip("uvloop")
    outcome = run(
        f"""
        import mellea.core.runtime.loop as loops
        loops.GRACE = 100.0
        loop = {make}
        thunk = loop.run_until_complete(abegin("a", FOREVER))
        def read(wait):
            began = time.monotonic()
            try:
                wait()
            except StreamingError as error:
                # not after the grace
                told.append(("closed" in str(error), error.partial, time.monotonic() - began < 40))
        import trio  # or a reader would have to load it first
        told = []
        threads = [
            threading.Thread(target=read, args=(thunk._compute_blocking,)),
            threading.Thread(target=read, args=(lambda: asyncio.run(thunk.avalue()),)),
            threading.Thread(target=read, args=(lambda: __import__("trio").run(thunk.avalue),)),
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        loop.close()
        for thread in threads:
            thread.join()
        print(told == [(True, "a", True)] * 3, told)
        """
    )
    assert outcome.out.startswith("True"), outcome.out
    assert (outcome.err, outcome.code) == ("", 0)


def test_uvloop_runs_reads_and_cancels() -> None:
    pytest.importorskip("uvloop")
    outcome = run(
        """
        import uvloop
        async def main():
            assert (await launch("a", Pause(0.01), "b")).value == "ab"
            async with launch("a", FOREVER) as thunk:
                await thunk.astream()
            backend.assert_closed()
            thunk = launch("a", FOREVER)
            await thunk.astream()
            del thunk
            gc.collect()
            await asyncio.sleep(0.02)
            backend.assert_closed()
            print(ask("inside"))
        uvloop.run(main())
        """
    )
    assert_quiet(outcome, "inside\n")


# -- exits inside -----------------------------------------------------------------------------------------


def test_an_exit_inside_a_verb_ends_the_program_with_its_code() -> None:
    outcome = run(
        """
        async def aquit():
            sys.exit(7)
        try:
            blocking(aquit)()
        except SystemExit:
            print(ask("still there"))
            raise
        """
    )
    assert (outcome.err, outcome.code, outcome.out) == ("", 7, "still there\n")


def test_an_exit_inside_a_run_is_an_error_for_its_readers_and_ends_no_loop() -> None:
    outcome = run(
        """
        try:
            ask(SystemExit(7))
        except BackendError as error:
            print("SystemExit" in str(error))
        print(ask("still there"))
        async def main():
            try:
                await launch(SystemExit(7))
            except BackendError:
                print("trio too")
        __import__("trio").run(main)
        """
    )
    assert_quiet(outcome, "True\nstill there\ntrio too\n")


def test_a_verb_inside_a_validator_inside_a_verb() -> None:
    outcome = run(
        """
        async def avalidated():
            return await anyio.to_thread.run_sync(lambda: ask("inner")) + " in outer"
        print(blocking(avalidated)())
        async def main():
            print(blocking(avalidated)(), "in a loop")
        asyncio.run(main())
        """
    )
    assert_quiet(outcome, "inner in outer\ninner in outer in a loop\n")


def test_importing_starts_no_thread() -> None:
    assert_quiet(run("print(threading.active_count())"), "1\n")
