"""What a model takes, told from its name."""

from __future__ import annotations

import pytest

from mellea.backends.anthropic.models import find_traits


@pytest.mark.parametrize(
    ("model", "max_tokens", "samples", "prefill", "native_schema", "thinking", "off"),
    [
        ("claude-3-haiku-20240307", 4096, True, True, False, "budget", ""),
        ("claude-3-5-sonnet-latest", 8192, True, True, False, "budget", ""),
        ("claude-3-7-sonnet-20250219", 64_000, True, True, False, "budget", ""),
        ("claude-4-opus-20250514", 32_000, True, True, False, "budget", ""),
        ("claude-opus-4-1-20250805", 32_000, True, True, False, "budget", ""),
        ("claude-sonnet-4", 64_000, True, True, False, "budget", ""),
        ("claude-sonnet-4-0", 64_000, True, True, False, "budget", ""),
        ("claude-haiku-4-5-20251001", 64_000, True, True, True, "budget", ""),
        ("anthropic/claude-sonnet-4.5", 64_000, True, True, True, "budget", ""),
        ("claude-opus-4-6", 64_000, True, False, True, "either", "disabled"),
        ("claude-opus-4-8", 64_000, False, False, True, "adaptive", "disabled"),
        ("claude-opus-5", 64_000, False, False, True, "adaptive", "disabled"),
        ("claude-opus-5-5", 64_000, False, False, True, "adaptive", None),
        ("claude-sonnet-5", 64_000, False, False, True, "adaptive", "disabled"),
        ("claude-sonnet-5-5", 64_000, False, False, True, "adaptive", "between_tools"),
        ("claude-haiku-5-5", 64_000, False, False, True, "adaptive", "disabled"),
        ("claude-fable-5-1", 64_000, False, False, True, "adaptive", None),
        ("claude-mythos-preview", 64_000, False, False, True, "adaptive", None),
        ("smollm2-135m", 4096, True, True, False, "budget", ""),
    ],
)
def test_families(
    model: str, max_tokens: int, samples: bool, prefill: bool, native_schema: bool, thinking: str, off: str | None
) -> None:
    can = find_traits(model)
    assert (can.max_tokens, can.samples, can.prefill) == (max_tokens, samples, prefill)
    assert (can.native_schema, can.thinking, can.off) == (native_schema, thinking, off)
