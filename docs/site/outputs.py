"""What each example prints: `python -m docs.site.outputs` runs them all, and writes `docs/examples/outputs.md`.

The examples run one after the other in an empty folder, on the embedded model; only those that are named are run, if
any are. The page is kept in the repository, since what a small model writes differs from machine to machine.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
PAGE = EXAMPLES / "outputs.md"

MODULES = ("lmstudio/lmstudio_session.py", "recorded_provider.py")
"""What several examples import."""

SILENT = ("mcp_server.py",)
"""Examples that speak a protocol on standard output."""

_LINES, _WIDTH = 40, 118
_TYPED = {"streaming/interactive_chat.py": "Hello!\nTell me about owls.\n"}
_PACKAGES = {"inspect_solver.py": "inspect_ai", "durable_steps.py": "dbos"}
_REQUESTS = {"web/app.py": "/generate?topic=the+sea", "web/form.py": "/fill?wish=a+room+by+the+sea"}
_HEAD = """# What the examples print

Everything here was printed with the embedded model, which is small and rarely makes sense, or with a script in place of
a model. On another machine the words differ. `scripts/outputs` generates this page.
"""


def list_programs() -> list[str]:
    """Name the examples that print something, by their paths in `docs/examples`."""
    found = [path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py")]
    return sorted(name for name in found if name not in MODULES + SILENT and "node_modules" not in name)


def read_outputs() -> dict[str, str]:
    """Read the page: what each example printed, with the command as its first line."""
    text = PAGE.read_text("utf-8") if PAGE.exists() else ""
    return dict(re.findall(r"^## (\S+)\n\n```text\n(.*?)\n```\n", text, re.MULTILINE | re.DOTALL))


def read_command(name: str) -> str:
    """Return the command that runs an example, as its docstring gives it."""
    return _read_line(name, "Run it: ")


def read_needs(name: str) -> str:
    """Return what an example needs, as its docstring gives it."""
    return _read_line(name, "Needs: ")


def _read_line(name: str, start: str) -> str:
    docstring = ast.get_docstring(ast.parse((EXAMPLES / name).read_text("utf-8"))) or ""
    found = re.search(rf"^{start}(.+)$", docstring, re.MULTILINE)
    if found is None:
        raise ValueError(f"the docstring of docs/examples/{name} has no line that begins with {start!r}")
    return found[1]


def show_command(name: str) -> str:
    """Return what a reader types to see what the page shows: the command, with its input or a request."""
    command = read_command(name)
    if name in _REQUESTS:
        return f"{command} &\n$ curl -N 'http://127.0.0.1:8000{_REQUESTS[name]}'"
    typed = _TYPED.get(name, "").replace("\n", "\\n")
    return f"printf '{typed}' | {command}" if typed else command


def _run(name: str, folder: str) -> str:
    """Run an example, and return what it printed."""
    path = EXAMPLES / name
    if name in _REQUESTS:
        with _serving(path.stem) as address:
            return subprocess.check_output(["curl", "-sN", address + _REQUESTS[name]], text=True, timeout=120)
    before, _, after = read_command(name).partition(f"docs/examples/{name}")
    command = [str(path), *after.split()]
    if "pytest" in before:
        Path(folder, "none.ini").write_text("[pytest]\n")
        command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "none.ini", *command]
    return _read([sys.executable, *command], folder, _TYPED.get(name, ""))


def _read(command: list[str], folder: str, typed: str = "") -> str:
    environment = {key: value for key, value in os.environ.items() if key != "MELLEA_MODEL"}
    # `test_reviews.py` reports a rate that a small model doesn't reach every time, which is what it is about.
    done = subprocess.run(
        command, cwd=folder, input=typed, capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    if done.returncode and "pytest" not in command:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


@contextmanager
def _serving(module: str) -> Iterator[str]:
    """Serve a web application on this machine, until the block is left."""
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES / "web"), f"{module}:app", "--port", "8000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        while "running on" not in (line := server.stderr.readline()):
            if not line:
                sys.exit(f"uvicorn doesn't serve {module}")
        try:
            yield "http://127.0.0.1:8000"
        finally:
            server.terminate()


def _shorten(printed: str) -> str:
    """Cut what is long, and say so; leave out this machine's paths and what differs in each run for no reason."""
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line.rsplit("\r", 1)[-1]).rstrip() for line in printed.splitlines()]
    lines = [re.sub(r"\S*/(?=docs/examples/)", "", line.replace(f"{ROOT}/", "")) for line in lines]
    while lines and not lines[0]:
        del lines[0]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], f"… and {len(lines) - _LINES + 1} more lines"]
    return "\n".join(part for line in lines for part in _wrap(line)).rstrip()


def _wrap(line: str) -> list[str]:
    """Wrap a long line, as a terminal does, but between words."""
    return [line] if len(line) <= _WIDTH else textwrap.wrap(line, _WIDTH, drop_whitespace=False)


def main() -> None:
    """Run the examples, and write the page."""
    outputs = read_outputs()
    wanted = sys.argv[1:] or list_programs()
    for name in wanted:
        package = _PACKAGES.get(name)
        if package and not importlib.util.find_spec(package):
            print(f"{name}: left as it was, since {package} isn't installed", flush=True)
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            printed = _run(name, folder)
        outputs[name] = f"$ {show_command(name)}\n{_shorten(printed)}"
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
        _write(outputs)  # each time, so that nothing is lost if the next one fails


def _write(outputs: dict[str, str]) -> None:
    parts = [f"## {name}\n\n```text\n{outputs[name]}\n```\n" for name in list_programs() if name in outputs]
    PAGE.write_text("\n".join([_HEAD, *parts]), "utf-8")


if __name__ == "__main__":
    main()
