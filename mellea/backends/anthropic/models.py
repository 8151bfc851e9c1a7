"""What a model supports, by its name: families differ in what they reject with status 400.

From the provider's model pages and migration guides (as of 2026-11). A name without a version, such as that
of a local model behind a compatible server, is assumed to support everything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

__all__ = ["Traits", "find_traits"]

_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d+)(?:[-.](\d{1,2})(?!\d))?")

_MYTHOS_PREVIEW = (5, 0)
"""It has no version in its name, and behaves like the fifth generation."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a model supports.

    Args:
        max_tokens: the limit where the user sets none; the format requires one.
        samples: whether it accepts temperature, top_p and top_k.
        prefill: whether it continues a trailing assistant message.
        native_schema: whether the provider enforces a JSON Schema.
        thinking: set by a token budget, by either, or only adaptive.
        off: how thinking is turned off; `None` where it can't be, `""` where it is off by default.
        hides_thinking: whether the text of its thinking has to be requested.
    """

    max_tokens: int
    samples: bool = True
    prefill: bool = True
    native_schema: bool = False
    thinking: Literal["budget", "either", "adaptive"] = "budget"
    off: Literal["disabled", "between_tools", ""] | None = ""
    hides_thinking: bool = False


@lru_cache(maxsize=64)
def find_traits(model: str) -> Traits:
    """Return what the model of this name supports."""
    version = _read_version(model)
    # Another vendor's model behind the same format: only what every server accepts.
    if version is None:
        return Traits(max_tokens=4096)
    if version < (4, 6):
        return Traits(max_tokens=_find_max_tokens(model, version), native_schema=version >= (4, 5))
    # From there on sampling parameters and token budgets are rejected.
    is_strict = version >= (4, 7)
    return Traits(
        max_tokens=64_000,
        samples=not is_strict,
        prefill=False,
        native_schema=True,
        thinking="adaptive" if is_strict else "either",
        off=_find_off_switch(model, version),
        hides_thinking=is_strict,
    )


def _read_version(model: str) -> tuple[int, int] | None:
    if "claude-mythos-preview" in model:
        return _MYTHOS_PREVIEW
    found = _VERSION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else None


def _find_max_tokens(model: str, version: tuple[int, int]) -> int:
    if version < (3, 5):
        return 4096
    if version < (3, 7):
        return 8192
    return 32_000 if "opus" in model and version < (4, 5) else 64_000


def _find_off_switch(model: str, version: tuple[int, int]) -> Literal["disabled", "between_tools"] | None:
    if "fable" in model or "mythos" in model or ("opus" in model and version >= (5, 5)):
        return None
    return "between_tools" if "sonnet" in model and version >= (5, 5) else "disabled"
