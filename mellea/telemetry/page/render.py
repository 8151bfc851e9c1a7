"""Write the page of a run: `page.html` with the style, the scripts and the spans in it.

Rules:

- The page loads nothing; its policy allows only its own script, known by its digest.
- A run's data is in one block of JSON that no browser runs, in which every `<` is escaped, so that nothing in it can
  end the block. The script only makes text nodes from it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import reprlib
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from mellea.core.masking import list_known_secrets, scrub_text
from mellea.core.span_data import describe_span
from mellea.core.tracing import Trace
from mellea.errors import UsageError

__all__ = ["policy", "render_page", "render_trace", "to_json"]

_HERE = Path(__file__).parent

_SCRIPTS = (
    "text.js",
    "run.js",
    "timeline.js",
    "rows.js",
    "replay.js",
    "detail.js",
    "live.js",
    "page.js",
    "controls.js",
    "start.js",
)
"""In the order in which they are in the page: later ones use what earlier ones define."""


def render_page(
    spans: Iterable[Mapping[str, Any]],
    *,
    title: str | None = None,
    live: str | None = None,
    runs: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Return the page of a run: a whole HTML document that needs no network.

    Args:
        spans: plain data, as returned by `read_run`.
        title: the title; by default the name of the first span.
        live: the path at which the page asks for changes, `None` if there will be none.
        runs: other runs that can be shown: dicts with `id`, `name`, `started` and `is_shown`.

    Raises:
        UsageError: these aren't spans of a record.
    """
    is_one = isinstance(spans, (str, bytes, Mapping)) or not isinstance(spans, Iterable)
    known = [] if is_one else list(spans)
    wrong = [spans] if is_one else [span for span in known if not isinstance(span, Mapping) or "id" not in span]
    if wrong:
        raise UsageError(
            f"render_page takes the spans that read_run returns, not {reprlib.repr(wrong[0])}; render_trace takes a "
            "trace"
        )
    called = title or next((str(span.get("name")) for span in known), "An empty run")
    data = {"title": called, "now": time.time(), "spans": known, "live": live, "runs": list(runs)}
    style, script = _read_style(), _read_script()
    return Template(_read("page.html")).substitute(
        policy=policy(is_live=live is not None),
        title=html.escape(called),
        style=style,
        script=script,
        data=to_json(data),
    )


def render_trace(trace: Trace, *, content: bool = False) -> str:
    """Return the page of a trace in memory.

    Args:
        trace: running or ended.
        content: whether to show content: prompts, answers, arguments and results of tools, and reasons. Keys are never
            shown.

    Raises:
        UsageError: it isn't a trace.
    """
    if not isinstance(trace, Trace):
        raise UsageError(f"render_trace takes what mellea.traces.start(…) made, not {trace!r}")
    secrets = list_known_secrets()
    spans = [describe_span(span, content=content, secrets=secrets) for span in trace.spans]
    return render_page(spans, title=scrub_text(trace.name, secrets))


def policy(*, is_live: bool) -> str:
    """Return the content security policy of the page.

    Args:
        is_live: whether it may ask its own server for changes.
    """
    rules = [
        "default-src 'none'",
        f"script-src '{_digest(_read_script())}'",
        f"style-src '{_digest(_read_style())}'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    if is_live:
        rules.append("connect-src 'self'")
    return "; ".join(rules)


def to_json(data: Any) -> str:
    """Return JSON that is safe in a `<script>`: nothing in it can be read as the end of the script or as a comment."""
    try:
        text = _dump(data)
    except ValueError:
        text = _dump(_write_out_numbers(data))
    text = text.encode("utf-8", "backslashreplace").decode()  # half of a surrogate pair, as JSON writes it
    return (
        text.replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    )


def _dump(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)


def _write_out_numbers(value: Any) -> Any:
    """Return a copy in which numbers that JSON doesn't have, such as infinity, are strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _write_out_numbers(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_write_out_numbers(item) for item in value]
    return value


@cache
def _read(name: str) -> str:
    return (_HERE / name).read_text("utf-8")


def _read_style() -> str:
    return _read("page.css")


@cache
def _read_script() -> str:
    return "\n" + "\n".join(_read(f"scripts/{name}") for name in _SCRIPTS)


@cache
def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
