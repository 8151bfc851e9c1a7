"""Prices: what is known is summed to the cent, what isn't is `None`, and a program can bring its own."""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea import prices
from mellea.core.blocks import ToolOutput
from mellea.core.events import (
    AttemptAccepted,
    AttemptStart,
    Event,
    StepEnd,
    StepStart,
    StreamEnd,
    TextDelta,
    ToolResult,
    Usage,
    UsageEvent,
)
from mellea.core.results import EmbeddingResult
from mellea.core.span_data import describe_span
from mellea.core.thunk import ComputedModelOutputThunk
from mellea.errors import UsageError
from mellea.prices import (
    Price,
    compute_cost,
    compute_events_cost,
    compute_thunk_cost,
    find_price,
    reset_prices,
    set_prices,
)
from mellea.stdlib.requirements import req, simple_validate
from mellea.stdlib.sampling import BudgetForcingStrategy, RejectionSamplingStrategy, SOFAIStrategy
from mellea.testing import ScriptedBackend

MILLION = 1_000_000


@pytest.fixture(autouse=True)
def _list_prices() -> Iterator[None]:
    yield
    reset_prices()


def test_each_kind_of_token_has_its_price() -> None:
    set_prices({"x/m": Price(1, 10, 0.1, 2, 20)})
    usage = Usage(input_tokens=100, output_tokens=50, cached_tokens=30, cache_write_tokens=20, reasoning_tokens=10)
    assert compute_cost(usage, "x", "m") == pytest.approx((50 * 1 + 30 * 0.1 + 20 * 2 + 40 * 10 + 10 * 20) / MILLION)


def test_reasoning_without_a_price_of_its_own_is_billed_as_output() -> None:
    set_prices({"x/m": Price(1, 10)})
    assert compute_cost(Usage(0, 50, reasoning_tokens=40), "x", "m") == pytest.approx(500 / MILLION)


@pytest.mark.parametrize(
    ("price", "usage"),
    [
        (Price(1, 10), None),
        (Price(1, 10), Usage()),
        (Price(1, 10), Usage(1, None)),
        (Price(1, 10), Usage(None, 1)),
        (Price(None, 10), Usage(1, 1)),
        (Price(1, None), Usage(1, 1)),
        (Price(1, 10), Usage(10, 1, cached_tokens=1)),
        (Price(1, 10), Usage(10, 1, cache_write_tokens=1)),
        (Price(1, 10, up_to=5), Usage(6, 1)),
        (Price(1, 10, 1), Usage(10, 1, cached_tokens=11)),
        (Price(1, 10, reasoning=1), Usage(10, 1, reasoning_tokens=2)),
    ],
)
def test_a_cost_with_an_unknown_part_is_none(price: Price, usage: Usage | None) -> None:
    set_prices({"x/m": price})
    assert compute_cost(usage, "x", "m") is None


def test_no_tokens_of_a_kind_need_no_price() -> None:
    set_prices({"x/m": Price(1), "x/n": Price(output=1)})
    assert compute_cost(Usage(MILLION, 0), "x", "m") == 1
    assert compute_cost(Usage(0, MILLION), "x", "n") == 1


def test_a_batch_has_its_factor_and_without_one_its_cost_is_unknown() -> None:
    set_prices({"x/m": Price(1, 10, 0.1, batch=0.5), "x/n": Price(1, 10)})
    assert compute_cost(Usage(100, 10), "x", "m", batch=True) == pytest.approx(100 / MILLION)
    assert compute_cost(Usage(100, 10, cached_tokens=1), "x", "m", batch=True) is None
    assert compute_cost(Usage(100, 10), "x", "n", batch=True) is None


def test_long_prompts_have_prices_of_their_own() -> None:
    assert compute_cost(Usage(200_000, 0), "gemini", "gemini-2.5-pro") == pytest.approx(0.25)
    assert compute_cost(Usage(200_001, 0), "gemini", "gemini-2.5-pro") == pytest.approx(0.5000025)


@pytest.mark.parametrize(
    ("model", "listed"),
    [
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("openai/gpt-4o-2024-08-06", "openai/gpt-4o"),
        ("anthropic/claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4-5"),
        ("anthropic/claude-opus-4-20250514", "anthropic/claude-opus-4"),
        ("anthropic/claude-opus-4@20250514", "anthropic/claude-opus-4"),
        ("gemini/gemini-2.5-flash-001", "gemini/gemini-2.5-flash"),
        ("openai/gpt-4o-audio-preview", None),
        ("openai/gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini"),
        ("openai/gpt-4o-2024-08-06-more", None),
        ("openai/gpt-4", None),
        ("azure/gpt-4o", None),
        ("gemini/gemini-2.5-flash-preview-05-20", None),
        ("ollama/llama3.2", "ollama/*"),
        ("ollama/gpt-oss:120b-cloud", None),
        ("ollama/kimi-k2:cloud", None),
        ("llama_cpp/anything.gguf", "llama_cpp/*"),
    ],
)
def test_a_model_is_found_by_its_name_or_without_its_date(model: str, listed: str | None) -> None:
    provider, _, name = model.partition("/")
    assert find_price(provider, name) == (None if listed is None else prices.list_prices()[listed])


def test_a_dated_model_with_an_entry_of_its_own_has_that_one() -> None:
    assert compute_cost(Usage(1, 1), "openai", "gpt-4o-2024-05-13") is None


def test_a_model_on_ones_own_machine_costs_nothing() -> None:
    assert compute_cost(Usage(1000, 1000, 10, 10, 10), "llama_cpp", "default") == 0.0
    assert compute_cost(Usage(), "llama_cpp", "default") is None


def test_every_list_price_is_dated_and_complete_enough_to_price_a_plain_call() -> None:
    for name, price in prices.list_prices().items():
        if name.endswith("/*"):
            continue
        assert re.fullmatch(r"20\d\d-\d\d(-\d\d)?", price.as_of), name
        if "embedding" not in name and name != "openai/gpt-4o-2024-05-13":
            assert price.cost(Usage(1000, 1000)), name
            assert price.cached is None or (price.input is not None and price.cached < price.input), name


def test_a_program_adds_and_replaces_prices_by_a_mapping_or_a_file(tmp_path: Path) -> None:
    set_prices({"openai/gpt-4o": {"input": 1, "output": 1}, "x/*": {"input": 2, "output": 2}})
    assert compute_cost(Usage(MILLION, 0), "openai", "gpt-4o") == 1
    assert compute_cost(Usage(MILLION, 0), "x", "whatever") == 2
    assert find_price("openai", "gpt-4o-mini") is not None
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"x/long": {"input": 1, "up_to": 10, "above": {"input": 3, "output": 3}}}))
    set_prices(file, replace=True)
    assert list(prices.list_prices()) == ["x/long"]
    assert compute_cost(Usage(MILLION, 0), "x", "long") == 3
    reset_prices()
    assert compute_cost(Usage(MILLION, 0), "openai", "gpt-4o") == 2.5


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"gpt-4o": Price(1)}, "a price is for 'provider/model', or 'provider/\\*', not for 'gpt-4o'"),
        ({3: Price(1)}, "not for 3"),
        ({"x/m": 3}, "a Price or a mapping of its fields, not 3"),
        ({"x/m": {"inputs": 3}}, "has no field 'inputs'; it has above, as_of, batch"),
        ({"x/m": {"input": -1}}, "input= of a Price takes a number from 0, or None, not -1"),
        ({"x/m": {"input": "1"}}, "not '1'"),
        ({"x/m": {"input": float("nan")}}, "not nan"),
        ([], "a mapping from 'provider/model'"),
    ],
)
def test_wrong_prices_are_refused_and_change_nothing(table: Any, said: str) -> None:
    before = prices.list_prices()
    with pytest.raises(UsageError, match=said):
        set_prices(table)
    assert prices.list_prices() is before


def test_a_file_that_isnt_json_or_too_big_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text("[")
    with pytest.raises(UsageError, match="isn't JSON"):
        set_prices(file)
    file.write_bytes(b" " * (8 * 2**20 + 1))
    with pytest.raises(UsageError, match="too many for prices"):
        set_prices(str(file))


def test_prices_are_set_from_several_threads_and_none_is_lost() -> None:
    def add(number: int) -> None:
        for step in range(20):
            set_prices({f"x/{number}-{step}": Price(number)})
            assert find_price("x", f"{number}-{step}") == Price(number)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(name.startswith("x/") for name in prices.list_prices()) == 160


def test_each_request_of_a_run_is_priced_by_itself() -> None:
    set_prices({"x/m": Price(1, 1, up_to=1000, above=Price(100, 100))})
    one: list[Event] = [TextDelta("a"), UsageEvent(Usage(600, 1)), UsageEvent(Usage(600, 400)), StreamEnd("stop")]
    steps = [StepStart(1), *one[:-1], ToolResult(ToolOutput("c", "f", 1)), StepEnd(1), StepStart(2), *one]
    assert compute_events_cost(one, "x", "m") == pytest.approx(1000 / MILLION)
    assert compute_events_cost(steps, "x", "m") == pytest.approx(2000 / MILLION), "not as one prompt of 1,200 tokens"
    attempts = [AttemptStart(1), *steps, AttemptStart(2), *one, AttemptAccepted(2)]
    assert compute_events_cost(attempts, "x", "m") == pytest.approx(3000 / MILLION)


def test_a_run_with_a_request_of_unknown_usage_costs_none() -> None:
    set_prices({"x/m": Price(1, 1)})
    known: list[Event] = [TextDelta("a"), UsageEvent(Usage(1, 1)), StreamEnd("stop")]
    assert compute_events_cost([AttemptStart(1), TextDelta("x"), AttemptStart(2), *known], "x", "m") is None
    assert compute_events_cost([AttemptStart(1), AttemptStart(2), *known], "x", "m") is not None
    assert compute_events_cost(known, "x", "other") is None


def _scripted(*replies: Any, model: str = "m") -> ScriptedBackend:
    backend = ScriptedBackend(*replies, usage=Usage(3, 4))
    backend.model_id = model
    return backend


def test_a_thunk_costs_what_its_requests_do_together() -> None:
    set_prices({"scripted/m": Price(1, 1)})
    assert compute_thunk_cost(mellea.start_session(_scripted("a")).instruct("x")) == pytest.approx(7 / MILLION)
    long = req("long", validation_fn=simple_validate(lambda text: len(text) > 2))
    m = mellea.start_session(_scripted("a", "bb", "ccc"))
    thunk = m.instruct("x", requirements=[long], strategy=RejectionSamplingStrategy(loop_budget=3))
    assert compute_thunk_cost(thunk) == pytest.approx(21 / MILLION)
    assert compute_thunk_cost(thunk.sampling.result) == pytest.approx(7 / MILLION)


def test_attempts_of_several_models_each_have_their_price() -> None:
    set_prices({"scripted/fast": Price(1, 1), "scripted/slow": Price(10, 10)})
    long = req("long", validation_fn=simple_validate(lambda text: len(text) > 2))
    m = mellea.start_session(_scripted("a", model="fast"))
    thunk = m.instruct("x", requirements=[long], strategy=SOFAIStrategy(_scripted("ccc", model="slow"), loop_budget=1))
    assert compute_thunk_cost(thunk) == pytest.approx(77 / MILLION)


async def _pending_cost() -> float | None:
    return compute_thunk_cost(await mellea.start_session(_scripted("a")).ainstruct("x", await_result=False))


@pytest.mark.anyio
async def test_what_isnt_computed_or_has_no_provider_costs_none() -> None:
    set_prices({"scripted/m": Price(1, 1)})
    assert await _pending_cost() is None
    assert compute_thunk_cost(ComputedModelOutputThunk("a")) is None


def test_a_file_of_prices_that_is_not_there_is_named_with_what_to_give(tmp_path: Path) -> None:
    for path in ("nofile", tmp_path / "none.json", tmp_path):
        with pytest.raises(
            UsageError, match=r"there is no file '.*'; set_prices takes the path of a JSON file, or a mapping"
        ):
            set_prices(path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: prices.compute_cost(Usage(1, 1), "openai", None), "not 'openai/None'"),  # type: ignore[arg-type]
        (lambda: prices.find_price(7, "gpt-5"), "not '7/gpt-5'"),  # type: ignore[arg-type]
        (lambda: prices.compute_cost((1, 1), "openai", "gpt-5"), r"takes a Usage, .* not \(1, 1\)"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_model_or_no_usage_is_refused_in_words(wrong: Callable[[], object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        wrong()


@pytest.mark.parametrize("loop_budget", [1, 2])
def test_an_answer_that_a_strategy_makes_of_several_requests_costs_what_they_cost(loop_budget: int) -> None:
    # Priced one by one: the limit holds for each prompt, not for their sum.
    set_prices({"scripted/*": Price(1, 1, up_to=15)})
    m = mellea.start_session(ScriptedBackend("hm", usage=Usage(10, 5)))
    never = req("never", validation_fn=simple_validate(lambda text: False))
    with mellea.traces.start("t") as t:
        thunk = m.instruct("x", requirements=[never], strategy=BudgetForcingStrategy(loop_budget=loop_budget))
    requests = [span for span in t.spans if span.is_request]
    assert len(requests) == 3 * loop_budget
    assert thunk.cost == m.cost == t.cost == pytest.approx(len(requests) * 15 / MILLION)
    assert copy.copy(thunk).cost == thunk.cost


class Vectors(ScriptedBackend):
    """Makes vectors; like most providers it doesn't say that no tokens were written."""

    async def embed(self, texts: Sequence[str]) -> EmbeddingResult:
        return EmbeddingResult(tuple((0.5,) for _ in texts), Usage(input_tokens=40))


def test_vectors_cost_what_their_input_costs() -> None:
    set_prices({"scripted/*": Price(2)})
    m = mellea.start_session(Vectors("a"))
    with mellea.traces.start("t") as t:
        assert m.embed(["a", "b"]).usage == Usage(input_tokens=40, output_tokens=0)
    assert m.cost == t.cost == pytest.approx(80 / MILLION)
    (call,) = (describe_span(span, content=True) for span in t.spans if span.is_request)
    assert "answer" not in call, "vectors are no message"
