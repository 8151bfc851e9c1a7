"""Record a program on a terminal, and write a picture that shows its lines when they came.

    uv run docs/pictures/terminal.py docs/examples/streaming/typed_items.py > docs/pictures/typed_items.svg

The picture is an SVG that moves by itself, without a script; who asks for less motion sees all lines at once.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from html import escape
from time import perf_counter

COLUMNS = 84
LINE, CHARACTER, MARGIN, BAR = 20, 8.43, 16, 34
LINGER = 4.0
"""How many seconds the last line stays before it all begins again."""

STYLE = """\
    text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d7dde4; }
    .prompt { fill: #5fd7a7; }
    .heading { fill: #8ab4f8; }
    .time { fill: #e5c07b; }
    .line { opacity: 0; animation: TOTALs steps(1, end) infinite; }
    @media (prefers-reduced-motion: reduce) { .line { opacity: 1; animation: none; } }
"""


def record(command: list[str]) -> Iterator[tuple[float, str]]:
    """Run a program on a terminal; yield each line of its output, with the second at which it was complete."""
    ours, its = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "NO_COLOR": "1", "TERM": "xterm"}
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=subprocess.DEVNULL, env=environment)
    os.close(its)
    began, held = perf_counter(), b""
    while True:
        try:
            read = os.read(ours, 4096)
        except OSError:  # the program has closed its side
            break
        *lines, held = (held + read).split(b"\n")
        for line in lines:
            yield perf_counter() - began, line.decode().rstrip("\r")
    os.close(ours)
    if process.wait() != 0:
        raise SystemExit(f"{command} ended with {process.returncode}")


def draw(title: str, lines: list[tuple[float, str]]) -> str:
    """Return the picture."""
    first = lines[0][0]  # what is before it is the loading of the model
    shown = [(0.0, f"$ {title}"), *((seconds - first + 0.8, text) for seconds, text in lines)]
    total = shown[-1][0] + LINGER
    width, height = round(COLUMNS * CHARACTER) + 2 * MARGIN, BAR + len(shown) * LINE + MARGIN
    rows, moments = [], []
    for number, (seconds, text) in enumerate(shown):
        share = 100 * seconds / total
        moments.append(f"    @keyframes l{number} {{ 0% {{ opacity: 0; }} {share:.2f}%, 100% {{ opacity: 1; }} }}")
        y = BAR + LINE * number + 14
        rows.append(
            f'  <text class="line" style="animation-name: l{number}" x="{MARGIN}" y="{y}" xml:space="preserve">'
            f"{_colour(text[:COLUMNS])}</text>"
        )
    moments[0] = "    @keyframes l0 { 0%, 100% { opacity: 1; } }"
    style = STYLE.replace("TOTAL", f"{total:.1f}") + "\n".join(moments)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"  <title>{escape(title)}, as it prints</title>",
            f"  <style>\n{style}\n  </style>",
            f'  <rect width="{width}" height="{height}" rx="8" fill="#1b2128"/>',
            *(f'  <circle cx="{20 + 18 * n}" cy="16" r="5" fill="{c}"/>' for n, c in enumerate(_LIGHTS)),
            *rows,
            "</svg>\n",
        ]
    )


_LIGHTS = ("#ec6a5e", "#f4bf4f", "#61c554")


def _colour(line: str) -> str:
    if line.startswith(("$ ", "== ")):
        return f'<tspan class="{"prompt" if line[0] == "$" else "heading"}">{escape(line)}</tspan>'
    time, mark, rest = line.partition(" s  ")
    if mark:
        return f'<tspan class="time">{escape(time + mark)}</tspan>{escape(rest)}'
    return escape(line)


if __name__ == "__main__":
    program = sys.argv[1]
    sys.stdout.write(draw(f"uv run {program}", list(record([sys.executable, program]))))
