"""What models cost: a dated table of list prices, which a program can replace or extend, and the cost of a usage.

Rules:

- A price that no source states isn't in the table, and costs that need it are `None`: nothing is estimated.
- `"provider/model"` is looked up as it is, then without a date or version at its end (`-2024-08-06`, `-20250929`,
  `@20250929`, `-001`), then as `"provider/*"`. Other names are other models: `gpt-4o-mini` isn't `gpt-4o`.
- A price that the program set counts also for the model that it asked for, whatever the server calls the one that
  answered; and one for `"openai/model"` also at an address of the program's own, where list prices don't hold.
- A model that runs on the user's own machine costs nothing per token: `llama_cpp`, `ollama` and `lmstudio` are 0.0.
  Ollama's cloud models (`…-cloud`, `…:cloud`) aren't local and aren't in the table.
- Prices are for text and what is billed like it; audio costs more with some models, and a usage doesn't distinguish it.

Sources, read 2026-11 in stored copies, which may be some weeks older than that:
platform.claude.com/docs/en/about-claude/pricing and the models' own pages there; ai.google.dev/gemini-api/docs/pricing
as quoted on 2026-10-07, and for cached tokens a table kept by hand (llm-prices, 2025-11); OpenAI's pricing page as
noted in genai-prices, where each model has the day it was checked. `Price.as_of` has the date. What moved since then
and could not be confirmed (OpenAI's models after GPT-5.1) was left out.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mellea.core.entrance import short_errors
from mellea.core.events import (
    AttemptStart,
    BuiltinToolEnd,
    Event,
    FileEvent,
    ReasoningDelta,
    StepStart,
    StreamEnd,
    TextDelta,
    ToolEnd,
    ToolStart,
    Usage,
    UsageEvent,
)
from mellea.core.numbers import check_number
from mellea.errors import ConfigurationError, UsageError

__all__ = [
    "Price",
    "compute_cost",
    "compute_events_cost",
    "compute_thunk_cost",
    "find_price",
    "list_prices",
    "reset_prices",
    "set_prices",
]

_LARGEST_FILE = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Price:
    """List prices of one model, in US dollars per million tokens; `None` if no source states one.

    Args:
        input: for the prompt.
        output: for the answer, including reasoning.
        cached: for the part of the prompt that was read from a cache.
        cache_write: for the part of the prompt that was written to a cache; the price of `input` if the provider
            charges nothing extra.
        reasoning: for reasoning, if it is billed separately from the answer.
        batch: what a batch costs, as a fraction of these prices, such as 0.5.
        batch_cached: the same fraction for cached tokens.
        up_to: the longest prompt, in tokens, for which these prices apply; `None` if they always do.
        above: the prices of longer prompts; without them their cost is unknown.
        as_of: when the source stated them, as an ISO date or month.
        second: US dollars per second of video; then the only price.
    """

    input: float | None = None
    output: float | None = None
    cached: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None
    batch: float | None = None
    batch_cached: float | None = None
    up_to: int | None = None
    above: Price | None = field(default=None)
    as_of: str = ""
    second: float | None = None

    def __post_init__(self) -> None:
        numbers = ("input", "output", "cached", "cache_write", "reasoning", "batch", "batch_cached", "up_to", "second")
        for name in numbers:
            check_number(f"{name}= of a Price", getattr(self, name), least=0, or_none=True)

    def cost(self, usage: Usage, *, batch: bool = False) -> float | None:
        """Return the cost of a request with this usage in US dollars, or `None` if a part of it is unknown.

        Tokens that the provider doesn't report separately (cached, reasoning) are billed as ordinary ones.
        """
        if usage.video_seconds is not None and self.second is not None:
            return usage.video_seconds * self.second
        if usage.input_tokens is None or usage.output_tokens is None:
            return None
        # Providers price the whole request by the length of its prompt, not only the tokens above the limit.
        if self.up_to is not None and usage.input_tokens > self.up_to:
            return None if self.above is None else self.above.cost(usage, batch=batch)
        cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
        reasoned = 0 if self.reasoning is None else usage.reasoning_tokens or 0
        fresh, answered = usage.input_tokens - cached - written, usage.output_tokens - reasoned
        if fresh < 0 or answered < 0:
            return None  # the numbers contradict each other
        # Separate, since not every provider halves the price of cached tokens.
        factor, cached_factor = (self.batch, self.batch_cached) if batch else (1.0, 1.0)
        parts = [
            (fresh, self.input, factor),
            (cached, self.cached, cached_factor),
            (written, self.cache_write, cached_factor),
            (answered, self.output, factor),
            (reasoned, self.reasoning, factor),
        ]
        total = 0.0
        for tokens, price, share in parts:
            # An unknown price only matters where there are such tokens.
            if tokens and (price is None or share is None):
                return None
            total += tokens * (price or 0.0) * (share or 0.0)
        return total / 1e6


_FREE = Price(0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0)


def _claude(input: float, output: float, write: float | None, cached: float, up_to: int | None = None) -> Price:
    # The write price is for a five-minute cache, the only one that is requested; a batch halves all of them.
    return Price(input, output, cached, write, batch=0.5, batch_cached=0.5, up_to=up_to, as_of="2026-11")


def _gpt(input: float, output: float, cached: float | None, as_of: str) -> Price:
    # Writing to its cache costs nothing extra.
    return Price(input, output, cached, input, batch=0.5, as_of=as_of)


def _gemini(
    input: float, output: float, cached: float | None = None, above: tuple[float, float, float | None] | None = None
) -> Price:
    as_of = "2026-10-07"
    if above is None:
        return Price(input, output, cached, batch=0.5, as_of=as_of)
    longer = Price(*above, batch=0.5, as_of=as_of)
    return Price(input, output, cached, batch=0.5, up_to=200_000, above=longer, as_of=as_of)


_LIST: Mapping[str, Price] = {
    "anthropic/claude-fable-5-1": _claude(10, 50, 12.5, 0.25),
    "anthropic/claude-fable-5": _claude(10, 50, 12.5, 1),
    "anthropic/claude-opus-5": _claude(5, 25, 6.25, 0.5),
    "anthropic/claude-opus-4-8": _claude(5, 25, 6.25, 0.5),
    "anthropic/claude-opus-4-7": _claude(5, 25, 6.25, 0.5),
    "anthropic/claude-opus-4-6": _claude(5, 25, 6.25, 0.5),
    "anthropic/claude-opus-4-5": _claude(5, 25, 6.25, 0.5),
    "anthropic/claude-opus-4-1": _claude(15, 75, 18.75, 1.5),
    "anthropic/claude-opus-4": _claude(15, 75, 18.75, 1.5),
    "anthropic/claude-opus-4-0": _claude(15, 75, 18.75, 1.5),
    "anthropic/claude-sonnet-5": _claude(2, 10, 2.5, 0.2),
    # The sources disagree on whether prompts above 200,000 tokens cost more with these three.
    "anthropic/claude-sonnet-4-6": _claude(3, 15, 3.75, 0.3, up_to=200_000),
    "anthropic/claude-sonnet-4-5": _claude(3, 15, 3.75, 0.3, up_to=200_000),
    "anthropic/claude-sonnet-4": _claude(3, 15, 3.75, 0.3, up_to=200_000),
    "anthropic/claude-sonnet-4-0": _claude(3, 15, 3.75, 0.3, up_to=200_000),
    "anthropic/claude-haiku-4-5": _claude(1, 5, 1.25, 0.1),
    "anthropic/claude-3-7-sonnet": _claude(3, 15, 3.75, 0.3),
    "anthropic/claude-3-5-sonnet": _claude(3, 15, 3.75, 0.3),
    "anthropic/claude-3-5-haiku": _claude(0.8, 4, 1, 0.08),
    "anthropic/claude-3-haiku": _claude(0.25, 1.25, 0.3, 0.03),
    "openai/gpt-5.1": _gpt(1.25, 10, 0.125, "2025-11-13"),
    "openai/gpt-5": _gpt(1.25, 10, 0.125, "2025-11-13"),
    "openai/gpt-5-mini": _gpt(0.25, 2, 0.025, "2025-11-13"),
    "openai/gpt-5-nano": _gpt(0.05, 0.4, 0.005, "2025-11-13"),
    "openai/gpt-5-pro": _gpt(15, 120, None, "2025-11-13"),
    "openai/gpt-4.1": _gpt(2, 8, 0.5, "2025-07-04"),
    "openai/gpt-4.1-mini": _gpt(0.4, 1.6, 0.1, "2025-07-04"),
    "openai/gpt-4.1-nano": _gpt(0.1, 0.4, 0.025, "2025-07-04"),
    "openai/gpt-4o": _gpt(2.5, 10, 1.25, "2025-07-04"),
    "openai/gpt-4o-2024-05-13": Price(as_of="2025-07-04"),  # later ones cost less; sources don't say how much
    "openai/gpt-4o-mini": _gpt(0.15, 0.6, 0.075, "2025-07-04"),
    "openai/o3": _gpt(2, 8, 0.5, "2025-07-12"),
    "openai/o3-mini": _gpt(1.1, 4.4, 0.55, "2025-07-04"),
    "openai/o4-mini": _gpt(1.1, 4.4, 0.275, "2025-07-04"),
    "openai/o1": _gpt(15, 60, 7.5, "2025-07-04"),
    "openai/text-embedding-3-small": Price(0.02, as_of="2025-07-04"),
    "openai/text-embedding-3-large": Price(0.13, as_of="2025-07-04"),
    "gemini/gemini-3.5-flash": _gemini(1.5, 9),
    "gemini/gemini-3.5-flash-lite": _gemini(0.3, 2.5),
    "gemini/gemini-3.1-pro-preview": _gemini(2, 12, above=(4, 18, None)),
    "gemini/gemini-2.5-pro": _gemini(1.25, 10, 0.125, above=(2.5, 15, 0.25)),
    "gemini/gemini-2.5-flash": _gemini(0.3, 2.5, 0.03),
    "gemini/gemini-2.5-flash-lite": _gemini(0.1, 0.4, 0.01),
    "cache/*": _FREE,  # answers from a journal
    "llama_cpp/*": _FREE,
    "lmstudio/*": _FREE,
    "ollama/*": _FREE,
}

_WRITTEN = {"compatible": "openai"}
"""How a program names a provider that has another name in the record: a server at an address that no table has."""

_MOST_NAMES = 1000
"""How many names are cached with their prices."""

_Lookup = tuple[Mapping[str, Price], dict[str, Price], dict[str, Price | None]]
_lookup: _Lookup = (MappingProxyType(dict(_LIST)), {}, {})
"""The table, the part of it that the program set, and the cache of look-ups; replaced together, so that readers need
no lock."""
_lock = threading.Lock()

_VERSION = re.compile(r"(?:[-@]20\d{6}|-20\d\d-\d\d-\d\d|-0\d\d)\Z")
_CLOUD = ("-cloud", ":cloud")


def list_prices() -> Mapping[str, Price]:
    """Return the current table, by `"provider/model"`."""
    return _lookup[0]


@short_errors
def set_prices(table: Mapping[str, Price | Mapping[str, Any]] | str | Path, *, replace: bool = False) -> None:
    """Add prices to the table or replace them, for the whole process.

    Args:
        table: `Price`s, or mappings of their fields, by `"provider/model"` (`"provider/*"` for all of a provider's
            models); or the path of a JSON file with such an object.
        replace: drop all other prices.

    Raises:
        UsageError: a name or a price is wrong, the file doesn't exist, or its JSON isn't such an object.
        ConfigurationError: the file can't be read.
    """
    global _lookup
    added = {_check_name(name): _as_price(name, price) for name, price in _entries(table).items()}
    with _lock:
        # Locked, because it is read and written; cached look-ups are dropped with it.
        table, own, _ = _lookup
        _lookup = (MappingProxyType(added if replace else {**table, **added}), added if replace else own | added, {})


def reset_prices() -> None:
    """Restore the list prices that come with the library."""
    global _lookup
    with _lock:
        _lookup = (MappingProxyType(dict(_LIST)), {}, {})


def find_price(provider: str, model: str, asked: str | None = None) -> Price | None:
    """Return the price of a model, `None` if the table has none; the rule for names is at the top of this file.

    Args:
        provider: the backend's name.
        model: the model that answered, or will be asked.
        asked: the model that was asked for, if another one answered.
    """
    table, own, known = _lookup
    whole = f"{provider}/{model}"
    if whole in known:
        found = known[whole]
    else:
        if not isinstance(provider, str) or not isinstance(model, str):
            raise UsageError(f"a price is that of a provider and a model, such as 'openai', 'gpt-5', not {whole!r}")
        found = _look_up(table, provider, model)
        if found is None and provider in _WRITTEN:
            found = _look_up(own, _WRITTEN[provider], model)
        if len(known) < _MOST_NAMES:  # a server may name its model as it likes
            known[whole] = found
    if found is None and own and asked and asked != model:
        names = (provider, _WRITTEN[provider]) if provider in _WRITTEN else (provider,)
        found = next((price for name in names if (price := _look_up(own, name, asked)) is not None), None)
    return found


def _look_up(table: Mapping[str, Price], provider: str, model: str) -> Price | None:
    whole = f"{provider}/{model}"
    # A dated version costs what its family costs.
    found = table.get(whole) or table.get(_VERSION.sub("", whole))
    if found is None and not model.endswith(_CLOUD):
        found = table.get(f"{provider}/*")
    return found


def write_model(provider: str, model: str) -> str:
    """Return a model's name as a program writes it."""
    return f"{_WRITTEN.get(provider, provider)}/{model}"


def compute_cost(
    usage: Usage | None, provider: str, model: str, *, batch: bool = False, asked: str | None = None
) -> float | None:
    """Return what one request costs in US dollars, by list prices, or `None` if any part of it is unknown.

    Prices may depend on the length of the prompt, so pass the usage of one request, not the sum of several.

    Args:
        usage: the tokens that it used.
        provider: the backend's name, such as `"anthropic"`.
        model: the model that answered.
        batch: whether it was sent in a batch.
        asked: the model that was asked for, if another one answered.
    """
    price = find_price(provider, model, asked)
    if usage is not None and not isinstance(usage, Usage):
        raise UsageError(f"compute_cost takes a Usage, such as Usage(input_tokens=10, output_tokens=5), not {usage!r}")
    return None if usage is None or price is None else price.cost(usage, batch=batch)


def compute_thunk_cost(thunk: Any) -> float | None:
    """Return the total cost of a computed thunk's requests in US dollars, or `None` if the cost of any is unknown.

    Under a strategy, this includes all attempts of all models. Requests of judges and compactors aren't included. The
    result is `None` for a thunk that isn't computed yet, and for one that was pickled, which doesn't know its provider.
    """
    if not thunk.is_computed():
        return None
    if thunk.sampling is not None:
        outputs = [attempt.output for attempt in thunk.sampling.attempts]
        return _sum(None if output is thunk else compute_thunk_cost(output) for output in outputs)
    return _sum(map(_compute_run_cost, thunk.record.parts or (thunk.record,)))


def _compute_run_cost(run: Any) -> float | None:
    sent = run.sent
    if sent is None:
        return None
    return compute_events_cost(run.events, sent.backend, run.so_far().model or sent.model, asked=sent.model)


def compute_events_cost(
    events: Iterable[Event], provider: str, model: str, *, asked: str | None = None
) -> float | None:
    """Return the total cost of a run's requests in US dollars, or `None` if the cost of any is unknown.

    Each attempt of a strategy and each step of a tool loop is priced as a separate request. The cost of one that
    was stopped before its usage arrived, such as a rejected attempt, is unknown.
    """
    return _sum(compute_cost(usage, provider, model, asked=asked) for usage in _usages(events))


def _sum(costs: Iterable[float | None]) -> float | None:
    total = 0.0
    for dollars in costs:
        if dollars is None:
            return None
        total += dollars
    return total


_ANSWER = frozenset({TextDelta, ReasoningDelta, ToolStart, ToolEnd, BuiltinToolEnd, FileEvent, StreamEnd})
"""Events that only an answered request has."""


def _usages(events: Iterable[Event]) -> list[Usage | None]:
    """Return the usage of each request, `None` if its provider didn't report it."""
    usages: list[Usage | None] = []
    usage: Usage | None = None
    was_answered = False
    for event in (*events, StepStart(0)):
        kind = type(event)
        if isinstance(event, UsageEvent):
            usage = event.usage if usage is None else usage.merge(event.usage)
        elif kind in _ANSWER:
            was_answered = True
        elif kind is AttemptStart or kind is StepStart:
            if was_answered or usage is not None:
                usages.append(usage)
            usage, was_answered = None, False
    return usages


def _entries(table: Any) -> Mapping[str, Any]:
    if isinstance(table, (str, Path)):
        path = Path(table)
        try:
            with path.open("rb") as file:
                data = file.read(_LARGEST_FILE + 1)
        except (FileNotFoundError, IsADirectoryError):
            raise UsageError(
                f"there is no file {str(path)!r}; set_prices takes the path of a JSON file, or a mapping such as "
                "{'provider/model': {'input': 2.0, 'output': 8.0}}"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"the prices in {str(path)!r} can't be read: {error}") from error
        if len(data) > _LARGEST_FILE:
            raise UsageError(f"the file {str(path)!r} has more than {_LARGEST_FILE:,} bytes, too many for prices")
        try:
            table = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the file {str(path)!r} isn't JSON: {error}") from None
    if not isinstance(table, Mapping):
        raise UsageError(f"prices are a mapping from 'provider/model' to a Price, not {table!r}")
    return table


def _check_name(name: Any) -> str:
    if isinstance(name, str):
        provider, _, model = name.partition("/")
        if provider and model and name.split() == [name]:
            return name
    raise UsageError(f"a price is for 'provider/model', or 'provider/*', not for {name!r}")


def _as_price(name: str, given: Any) -> Price:
    if isinstance(given, Price):
        return given
    if not isinstance(given, Mapping):
        raise UsageError(f"the price of {name!r} is a Price or a mapping of its fields, not {given!r}")
    known = {each.name for each in fields(Price)}
    if unknown := sorted(map(str, given.keys() - known)):
        raise UsageError(f"the price of {name!r} has no field {unknown[0]!r}; it has {', '.join(sorted(known))}")
    above = given.get("above")
    return Price(**{**given, "above": None if above is None else _as_price(name, above)})
