"""Extracts a server's error message, in any format, as one line that is safe to show.

Seen in the wild: `{"error": {"message", …}}` (OpenAI, Anthropic, Gemini), `{"error": "text"}` (Ollama), `{"detail":
[{"msg"}]}` (FastAPI), `{"base_resp": {"status_code", "status_msg"}}` (MiniMax), `{"error_code", "error_msg"}` (Baidu),
`{"code", "message"}` (SiliconFlow, Z.ai), `{"success": false, "msg"}`, `{"errors": [{"message"}]}` (Cloudflare), pages
in HTML and plain text. Terminal escapes and other control characters are removed, since errors are shown on terminals.
"""

from __future__ import annotations

import json
from typing import Any

from mellea.backends.http.halves import parse_odd
from mellea.core.terminal import make_visible

__all__ = ["LONGEST", "WORDS", "find_words", "read_words", "shorten_page", "show_value"]

LONGEST = 500
"""How many characters of a server's message are shown."""

_MOST_BYTES = 65536  # of a body that are examined

WORDS = (
    "error", "errors", "message", "msg", "detail", "details", "error_message", "errormessage", "error_msg", "errmsg",
    "err_msg", "status_msg", "base_resp", "error_description", "description", "reason", "fault", "faultstring", "title",
)  # fmt: skip
"""The fields with the message, or with an object that has it; the first non-empty one counts."""

_DEEPEST = 6

_SKIPPED = (("<script", "</script"), ("<style", "</style"), ("<!--", "-->"))


def find_words(value: Any) -> str:
    """Return the message in a server's JSON, `""` if there is no known field."""
    return _cut(make_visible(_find(value, 0)))


def read_words(body: bytes) -> str:
    """Return the message in a server's bytes: from its JSON, else the beginning of its page or text."""
    try:
        value = parse_odd(body)
    except ValueError:
        return shorten_page(body)
    return (_cut(make_visible(value)) if isinstance(value, str) else find_words(value)) or shorten_page(body)


def show_value(value: Any) -> str:
    """Return the beginning of a JSON value that is in no known form."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=repr)
    except (ValueError, RecursionError):
        return "something nested very deeply"
    return make_visible(text[: 2 * LONGEST])[:LONGEST]


def shorten_page(body: bytes) -> str:
    """Return the beginning of a body in another format, without markup."""
    body = body[:_MOST_BYTES]
    text, lower = body.decode("utf-8", "replace"), body.lower().decode("utf-8", "replace")
    text = make_visible(_find_title(text, lower) or _strip_markup(text, lower))
    # Cut before entities are decoded, since Python rejects numbers of thousands of digits.
    import html  # lazy: for a proxy's page in place of an answer

    return _cut(make_visible(html.unescape(text[: 4 * LONGEST])))


def _find(value: Any, depth: int) -> str:
    if isinstance(value, str):
        return value.strip()
    if depth > _DEEPEST:
        return ""
    if isinstance(value, list):
        return next((text for each in value[:8] if (text := _find(each, depth + 1))), "")
    if not isinstance(value, dict):
        return ""
    fields = {name.lower(): item for name, item in value.items() if isinstance(name, str)}
    found = next((text for name in WORDS if name in fields and (text := _find(fields[name], depth + 1))), "")
    codes = (fields.get(name) for name in ("code", "type", "status"))
    return found or (next((code for code in codes if isinstance(code, str) and code), "") if depth else "")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _find_title(text: str, lower: str) -> str:
    start = lower.find("<title")
    opened = text.find(">", start) if start >= 0 else -1
    end = lower.find("</title", opened) if opened >= 0 else -1
    return text[opened + 1 : end].strip() if end >= 0 else ""


def _strip_markup(text: str, lower: str) -> str:
    """Return the text between the tags; one pass, since a page may be made to be slow."""
    out: list[str] = []
    place = 0
    while (start := text.find("<", place)) >= 0:
        out += (text[place:start], " ")
        close = next((end for begin, end in _SKIPPED if lower.startswith(begin, start)), None)
        if close is not None:
            end = lower.find(close, start + 1)
            if end < 0:
                return "".join(out)
            start = end
            if close == "-->":
                place = end + 3
                continue
        end = text.find(">", start)
        if end < 0:
            place = start
            break
        place = end + 1
    return "".join([*out, text[place:]])
