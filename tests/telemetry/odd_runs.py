"""Runs of unusual sizes and shapes, as plain data: long, short, wide, deep, in several scripts, failed, running."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["RUNS", "make_deep", "make_long", "make_mixed", "make_short", "make_wide"]

_BEGAN = 1_790_000_000.0


def _span(
    id: int, parent: int | None, kind: str, name: str, start: float, seconds: float, **more: Any
) -> dict[str, Any]:
    above = {} if parent is None else {"parent": parent}
    return {
        "id": id, **above, "kind": kind, "name": name, "started": _BEGAN + start, "seconds": seconds, "status": "ok",
        "is_request": False, **more,
    }  # fmt: skip


def _request(
    id: int, parent: int, name: str, start: float, seconds: float, ask: Any, answer: Any, **more: Any
) -> dict[str, Any]:
    return _span(
        id, parent, "call", name, start, seconds, is_request=True, provider="openai", model="gpt-5-mini",
        given_name=name, input_tokens=812, output_tokens=96, cost=0.000395, time_to_first_chunk=seconds / 4,
        chunk_count=24, finish_reason="stop", messages=[_message("user", ask)],
        answer={**_message("assistant", answer), "finish_reason": "stop"}, **more,
    )  # fmt: skip


def _message(role: str, said: Any) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": said}] if isinstance(said, str) else said}


def make_long() -> list[dict[str, Any]]:
    """Return a run of seven hours, most of which it waits for a person, with calls of a second."""
    spans = [_span(1, None, "agent", "night shift", 0, 25_400)]
    for number in range(1, 13):
        start = (number - 1) * 2_100.0
        spans.append(_span(10 * number, 1, "step", f"step {number}", start, 1_900, number=number))
        spans.append(
            _request(
                10 * number + 1, 10 * number, f"decide {number}", start, 1.2, "What is next?", "Wait for the night."
            )
        )
        spans.append(
            _span(10 * number + 2, 10 * number, "wait", "approve_order", start + 1.3, 1_890, tool="approve_order")
        )
    return spans


def make_short() -> list[dict[str, Any]]:
    """Return a run of a millisecond."""
    return [
        _span(1, None, "trace", "in an instant", 0, 0.001),
        _request(2, 1, "cached answer", 0.0001, 0.0004, "Again?", "As before."),
        _span(3, 1, "check", "check", 0.0005, 0.00002, is_met=True, check="is_short", requirement="Be short."),
        _span(4, 1, "tool", "add", 0.0006, 0.0000004, tool="add", arguments={"a": 1, "b": 2}, result="3"),
        _span(5, 1, "tool", "nothing", 0.0007, 0.0, tool="nothing", arguments={}, result=""),
    ]


def make_wide(count: int = 300) -> list[dict[str, Any]]:
    """Return a run of many calls at the same time, and one that is made of all of them."""
    spans = [_span(1, None, "function", "summarise_all", 0, 9.5)]
    for number in range(count):
        spans.append(
            _request(
                number + 2, 1, f"summarise page {number + 1}", number * 0.004, 1.5 + number * 37 % 50 / 10,
                f"Summarise page {number + 1}.", f"Page {number + 1} is about the sea.",
            )
        )  # fmt: skip
    whole = _request(count + 2, 1, "put together", 1.3, 8.1, "Put the summaries together.", "It is about the sea.")
    return [*spans, {**whole, "links": [number + 2 for number in range(count)]}]


def make_deep(levels: int = 15) -> list[dict[str, Any]]:
    """Return a run of agents that ask agents."""
    spans = []
    for level in range(levels):
        spans.append(
            _span(level + 1, level or None, ("agent", "step", "tool")[level % 3],
                  ("researcher", f"step {level}", "ask_a_colleague_who_knows_more")[level % 3],
                  level * 0.1, 8 - level * 0.2, number=level)
        )  # fmt: skip
    spans.append(_request(levels + 1, levels, "the question at the bottom of it all", 2, 3, "Why?", "Because."))
    return spans


def make_mixed() -> list[dict[str, Any]]:
    """Return a run in several scripts, with long texts, files, failures, and spans that are still running or lost."""
    since = time.time() - _BEGAN - 12
    long_text = "The rain in Bergen falls on two hundred and forty days a year. " * 1_600
    picture = {"type": "blob", "mime_type": "image/png", "modality": "image", "size": 184_220}
    recording = {
        "type": "uri",
        "mime_type": "audio/wav",
        "modality": "audio",
        "uri": "https://example.org/a/" + "x" * 90,
    }
    arabic = "مرحبًا بالعالم! هذا نص عربي طويل مع English في الوسط و ١٢٣."
    hebrew = "שלום עולם, זה טקסט בעברית (עם סוגריים)."
    spans = [
        _span(1, None, "trace", "رحلة إلى بيرغن 🌧️ weekend trip", since, 12, status="running"),
        _request(2, 1, "تحية", since, 0.8, arabic, hebrew),
        _request(
            3,
            1,
            "👩‍👩‍👧‍👦 family trip 🏔️🚠",
            since + 0.8,
            1.1,
            "Plan a day 👨‍👩‍👧 with 🐕‍🦺.",
            "🚠 up, 🥾 down, 🐟 for dinner. " * 6,
        ),
        _request(
            4,
            1,
            "describe picture",
            since + 1,
            1.4,
            [{"type": "text", "content": "What is in the picture?"}, picture, recording],
            "A harbour in the rain.",
        ),
        _request(5, 1, "long report", since + 1.2, 2.2, "Write a long report.", long_text),
        _request(
            6,
            1,
            "a name that goes on and on because somebody wrote the whole prompt into it " * 2,
            since + 2,
            0.7,
            "Hi",
            "Ho",
        ),
        _span(7, 1, "call", "letter", since + 3, 3, given_name="letter"),
        _span(
            8,
            7,
            "attempt",
            "attempt 1",
            since + 3,
            1.5,
            number=1,
            is_accepted=False,
            reasons=[
                {"requirement": "Be polite.", "reason": "it doesn't greet"},
                {"requirement": "يجب أن يكون قصيرًا", "reason": "طويل جدًا"},
            ],
        ),
        _request(9, 8, "letter", since + 3, 1.2, "Write a letter.", "Pay now."),
        _span(
            10,
            8,
            "check",
            "check",
            since + 4.2,
            0.3,
            is_met=False,
            check="is_polite",
            requirement="Be polite.",
            reason="it doesn't greet",
        ),
        _span(11, 7, "attempt", "attempt 2", since + 4.6, 1.4, number=2, is_accepted=True, reasons=[]),
        _request(12, 11, "letter", since + 4.6, 1.1, "Write a letter.", "Dear Ann, please pay."),
        _span(13, 11, "check", "check", since + 5.7, 0.2, is_met=True, check="is_polite", requirement="Be polite."),
        _span(
            14,
            1,
            "tool",
            "search_the_archive",
            since + 6,
            0.4,
            status="error",
            error_type="ValueError",
            tool="search_the_archive",
            arguments={"query": "rain", "limit": 10},
            error="ValueError: the archive is closed on Sundays",
            is_error=True,
            result="ValueError: the archive is closed on Sundays",
        ),
        _span(
            15,
            1,
            "call",
            "forecast",
            since + 6.5,
            1,
            status="error",
            error_type="RateLimitError",
            is_request=True,
            error="RateLimitError: openai: too many requests; try again in 20 s",
            provider="openai",
            model="gpt-5-mini",
            retries=2,
        ),
        _span(
            16,
            1,
            "call",
            "left",
            since + 7,
            1,
            status="cancelled",
            error_type="cancelled",
            is_request=True,
            provider="openai",
            model="gpt-5",
        ),
        _span(
            17,
            1,
            "image",
            "draw",
            since + 8,
            1.5,
            is_request=True,
            output_type="image",
            provider="openai",
            model="gpt-image-1",
        ),
        _span(
            18,
            1,
            "embedding",
            "embed",
            since + 8,
            0.2,
            is_request=True,
            provider="openai",
            model="text-embedding-3-small",
            input_tokens=90,
            cost=0.0000018,
        ),
        _span(19, 1, "work", "old worker", since + 8, 0.2, status="lost"),
        {
            **_request(20, 1, "being written", since + 9, 3, "Go on.", "It has begun to"),
            "status": "running",
            "finish_reason": "error",
        },
        {
            **_request(21, 1, "waiting for it", since + 9, 3, "Translate.", ""),
            "status": "running",
            "links": [20],
            "answer": None,
        },
    ]
    for span in spans:
        if span["status"] == "running":
            span["seconds"] = None
    return [{name: value for name, value in span.items() if value is not None} for span in spans]


RUNS = {"deep": make_deep, "long": make_long, "mixed": make_mixed, "short": make_short, "wide": make_wide}
"""All of them, by name."""
