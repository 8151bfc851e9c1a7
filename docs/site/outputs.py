"""What each example prints: `python -m docs.site.outputs` runs them all, and writes `docs/examples/outputs.md`.

The examples run one after the other in an empty folder, on the embedded model; only those that are named are run, if
any are. The page is kept in the repository, since what a small model writes differs from machine to machine.
"""

from __future__ import annotations

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
_ARGUMENTS = {"test_reviews.py": " --mellea-record", "inspect_solver.py": "", "durable_steps.py": ""}
_PACKAGES = {"inspect_solver.py": "inspect-ai", "durable_steps.py": "dbos"}
_REQUESTS = {"web/app.py": "/generate?topic=the+sea", "web/form.py": "/fill?wish=a+room+by+the+sea"}
_HEAD = """# What the examples print

All of it comes from the embedded model, which is small and rarely makes sense, or from a script in place of a model.
Another machine prints other words. `scripts/outputs` makes this page.
"""


def list_programs() -> list[str]:
    """Name the examples that print something, by their paths in `docs/examples`."""
    found = [path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py")]
    return sorted(name for name in found if name not in MODULES + SILENT and "node_modules" not in name)


def read_outputs() -> dict[str, str]:
    """Read the page: what each example printed, with the command as its first line."""
    text = PAGE.read_text("utf-8") if PAGE.exists() else ""
    return dict(re.findall(r"^## (\S+)\n\n```text\n(.*?)\n```\n", text, re.MULTILINE | re.DOTALL))


def _run(name: str, folder: str) -> tuple[str, str]:
    """Run an example; return the command, as a reader types it, and what it printed."""
    path = EXAMPLES / name
    shown = f"docs/examples/{name}"
    python = [sys.executable]
    if name in _REQUESTS:
        module = f"--app-dir docs/examples/web {path.stem}:app"
        with _serving(path.stem) as address:
            printed = subprocess.check_output(["curl", "-sN", address + _REQUESTS[name]], text=True, timeout=120)
        return f"uvicorn {module} &\n$ curl -N '{address}{_REQUESTS[name]}'", printed
    if path.name.startswith("test_"):
        more = _ARGUMENTS.get(name, "")
        command = [*python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "none.ini", str(path), *more.split()]
        Path(folder, "none.ini").write_text("[pytest]\n")
        return f"pytest -q {shown}{more}", _read(command, folder)
    typed = _TYPED.get(name, "")
    before = f"printf '{typed}' | ".replace("\n", "\\n") if typed else ""
    extra = f"--with {_PACKAGES[name]} " if name in _PACKAGES else ""
    return f"{before}uv run {extra}{shown}", _read([*python, str(path)], folder, typed)


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
        if package and not importlib.util.find_spec(package.replace("-", "_")):
            print(f"{name}: left as it was, since {package} isn't installed", flush=True)
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            command, printed = _run(name, folder)
        outputs[name] = f"$ {command}\n{_shorten(printed)}"
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
        _write(outputs)  # each time, so that nothing is lost if the next one fails


def _write(outputs: dict[str, str]) -> None:
    parts = [f"## {name}\n\n```text\n{outputs[name]}\n```\n" for name in list_programs() if name in outputs]
    PAGE.write_text("\n".join([_HEAD, *parts]), "utf-8")


if __name__ == "__main__":
    main()
