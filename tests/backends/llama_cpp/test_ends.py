"""Programs that end, or are interrupted, at a random moment of the embedded model's first call."""

import random
import signal
import subprocess
import sys
import time

import pytest

from tests.soak import factor

MOMENTS = min(10 * max(1, round(factor())), 200)
"""`scripts/soak` tries them all, CI one in twenty."""

SECONDS = 2.0

SPAN = 1.2
"""The load and the first words lie within this time after the call has begun."""

PRELUDE = """
import asyncio, os, signal, sys, threading, time
import mellea

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is born deaf to Ctrl-C
wait = float(sys.argv[1])
session = mellea.start_session(context_window=256, parallel=1)
short = {"max_tokens": 3}

def call():
    try:
        session.instruct("Say hello.", model_options=short)
    except mellea.MelleaError:
        pass  # the model was unloaded before its answer was complete

def begin(target):
    print("begun", flush=True)
    target()

def end_later(end):
    print("begun", flush=True)
    threading.Thread(target=call, daemon=True).start()
    time.sleep(wait)
    end()
"""

FOR_EVER = """
def often():
    while True:
        call()
begin(often)
"""

OWN_ENDS = {
    "the end of the file": "end_later(lambda: None)",
    "sys.exit": "end_later(lambda: sys.exit(3))",
    "an error that nobody catches": "end_later(lambda: 1 / 0)",
    "a time-out in asyncio": """
async def main():
    try:
        async with asyncio.timeout(wait):
            while True:
                await session.ainstruct("Say hello.", model_options=short)
    except TimeoutError:
        pass
begin(lambda: asyncio.run(main()))
""",
}

# In short sleeps: measured on Python 3.11, one plain `time.sleep(60)` in a hundred sleeps through a Ctrl-C that comes
# while another thread loads the engine, and none of 500 of these does. CPython looks at a signal between two calls.
WAIT = """
def wait_for_ever():
    while True:
        time.sleep(0.05)
"""

SIGNALLED = {
    "Ctrl-C in the main thread": (signal.SIGINT, FOR_EVER),
    "Ctrl-C over a stream": (
        signal.SIGINT,
        """
def often():
    while True:
        with session.stream("Say hello.", model_options=short) as stream:
            for chunk in stream: pass
begin(often)
""",
    ),
    "Ctrl-C in asyncio": (
        signal.SIGINT,
        """
async def main():
    while True:
        await session.ainstruct("Say hello.", model_options=short)
begin(lambda: asyncio.run(main()))
""",
    ),
    "Ctrl-C while a thread calls": (
        signal.SIGINT,
        WAIT + "threading.Thread(target=call, daemon=True).start(); begin(wait_for_ever)",
    ),
    "SIGTERM": (signal.SIGTERM, FOR_EVER),
    "SIGTERM that means sys.exit": (
        signal.SIGTERM,
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n" + FOR_EVER,
    ),
}

CODES = {
    "the end of the file": {0},
    "sys.exit": {3},
    "an error that nobody catches": {1},
    "a time-out in asyncio": {0},
    "SIGTERM": {-signal.SIGTERM},
    "SIGTERM that means sys.exit": {3},
}
CTRL_C = {-signal.SIGINT, 1, 130}


def seconds_until_it_ends(what: str, wait: float) -> tuple[float, int, str]:
    """Return how long the program took to end after its moment, its exit code, and what it wrote to stderr."""
    sent, program = SIGNALLED.get(what, (None, OWN_ENDS.get(what)))
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + program, str(wait)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "begun\n"
            moment = time.monotonic() + wait
            time.sleep(wait)
            if sent is not None:
                process.send_signal(sent)
            _, errors = process.communicate(timeout=20)
        except BaseException:
            process.kill()
            raise
        return time.monotonic() - moment, process.returncode, errors


@pytest.fixture(scope="module")
def allowed(backend) -> float:  # the fixture skips where there is no engine
    """Two seconds, and more where the machine is so busy that a program takes them for doing nothing at all."""
    began = time.monotonic()
    program = "import xllamacpp, mellea; mellea.start_session().instruct('Hi', model_options={'max_tokens': 1})"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    return max(SECONDS, 2 * (time.monotonic() - began))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process")
@pytest.mark.parametrize("what", [*OWN_ENDS, *SIGNALLED])
@pytest.mark.sample(2)
def test_a_program_ends_at_any_moment_of_the_first_call(allowed, what):
    moments = random.Random(what)
    for _ in range(MOMENTS // len([*OWN_ENDS, *SIGNALLED])):
        wait = moments.uniform(0, SPAN)
        seconds, code, errors = seconds_until_it_ends(what, wait)
        assert seconds < allowed, f"after {wait:.3f} s: it took {seconds:.1f} s to end"
        assert code in CODES.get(what, CTRL_C), f"after {wait:.3f} s: exit code {code}\n{errors}"
