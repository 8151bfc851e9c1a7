"""What can only be seen from outside: the end of the process, forks, imports that fail, what is written where."""

import os
import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import os, sys, threading, time, anyio
from mellea.backends import Request
from mellea.backends.llama_cpp import LlamaCppBackend
from mellea.core.messages import user_message

backend = LlamaCppBackend(context_window=1024, parallel=1, **BACKEND)
assert "xllamacpp" not in sys.modules

async def read(text="Tell a long story.", max_tokens=2, on_event=lambda event: None):
    options = {"max_tokens": max_tokens, "temperature": 0}  # or now and then the story is a short one
    async for event in backend.run(Request(messages=(user_message(text),), options=options)):
        on_event(event)
"""


@pytest.fixture
def run_python(backend):  # the fixture skips where there is no engine
    def run(program, timeout=40, settings="", **environment):
        code = f"BACKEND = dict({settings})\n" + PRELUDE + textwrap.dedent(program)
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=os.environ | environment,
            check=False,
        )

    return run


@pytest.mark.parametrize("what", ["writes", "reads a prompt", "loads"])
def test_the_process_ends_in_good_order_while_the_engine(run_python, what):
    text = "word river stone " * 250 if what == "reads a prompt" else "Tell a long story."
    program = f"""
        begun = threading.Event()
        job = lambda: anyio.run(read, {text!r}, 900, lambda event: begun.set())
        threading.excepthook = lambda arguments: None  # the stream was cut, of course
        threading.Thread(target=job, daemon=True).start()
        begun.wait({0.2 if what == "loads" else 30})
        print("end")
    """
    done = run_python(program)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


FORK = """
    sys.stdout.reconfigure(line_buffering=True)
    if {parent_reads}:
        anyio.run(read)
    child = os.fork()
    if child == 0:
        if {child_reads}:
            try:
                anyio.run(read)
                print("read")
            except Exception as error:
                print(type(error).__name__, error)
        sys.exit(3)
    print("child left with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    if {parent_reads}:
        anyio.run(read)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.skipif(sys.platform != "linux", reason="the C library has no on_exit")
@pytest.mark.parametrize(
    ("parent_reads", "child_reads", "says"),
    [(True, True, "ConfigurationError"), (True, False, ""), (False, True, "read\n")],
)
@pytest.mark.sample(1)
def test_fork(run_python, parent_reads, child_reads, says):
    done = run_python(FORK.format(parent_reads=parent_reads, child_reads=child_reads))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("child left with 3\n")
    assert done.stdout.startswith(says)
    assert ("'spawn'" in done.stdout) == (says == "ConfigurationError")


@pytest.mark.parametrize("verbose", [False, True])
def test_the_engine_is_silent_unless_asked(run_python, verbose):
    done = run_python("anyio.run(read)", settings=f"verbose={verbose}")
    assert (done.returncode, done.stdout) == (0, "")
    assert bool(done.stderr) == verbose


BROKEN_IMPORT = """
    import importlib.abc
    class Broken(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name.startswith("xllamacpp"):
                {fault}
    sys.meta_path.insert(0, Broken())
    try:
        anyio.run(read)
    except Exception as error:
        print(type(error).__name__, isinstance(error, ImportError), error)
"""


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        ("raise ModuleNotFoundError('No module named xllamacpp', name='xllamacpp')", "pip install 'mellea[local]'"),
        ("raise ImportError('libgomp.so.1: cannot open shared object file')", "apt-get install libgomp1"),
    ],
)
def test_an_engine_that_cannot_be_imported(run_python, fault, advice):
    done = run_python(BROKEN_IMPORT.format(fault=fault))
    assert done.stdout.startswith("MissingExtraError True")
    assert advice in done.stdout


def test_a_session_without_the_engine_says_at_once_how_to_get_it_or_another_model(run_python):
    program = """
        import importlib.machinery, sys
        import mellea
        from mellea.backends.registry import probe

        usual = importlib.machinery.PathFinder.find_spec
        class Hidden:
            def find_spec(name, path=None, target=None):
                return None if name == "xllamacpp" else usual(name, path, target)
        sys.meta_path[:] = [Hidden if each is importlib.machinery.PathFinder else each for each in sys.meta_path]
        print(anyio.run(probe, "llama_cpp/smollm2-135m").reason)
        try:
            mellea.start_session()
        except mellea.errors.MissingExtraError as error:
            print(error)
    """
    said = run_python(program).stdout.splitlines()
    assert len(said) == 2
    for line in said:
        assert "`pip install 'mellea[local]'` gets it; or name another model" in line


def test_a_file_that_the_engine_cannot_load(run_python, tmp_path):
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(64))
    program = """
        for _ in range(2):
            try:
                anyio.run(read)
            except Exception as error:
                print(type(error).__name__, error)
    """
    done = run_python(program, MELLEA_GGUF=str(file))
    assert done.stdout.count("ConfigurationError llama.cpp can't load") == 2
    assert "broken.gguf" in done.stdout
    assert done.stderr == ""


def test_ctrl_c_stops_a_generation(run_python):
    program = """
        import signal
        seen = []

        def interrupt():
            seen.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        def on_event(event):
            seen.append(event)
            if len(seen) == 3:
                threading.Timer(0.02, interrupt).start()

        try:
            anyio.run(read, "Tell a long story.", 900, on_event)
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - max(at for at in seen if isinstance(at, float)) < 2.5)
    """
    done = run_python(program)
    assert (done.returncode, done.stdout) == (0, "interrupted True\n"), done.stderr
