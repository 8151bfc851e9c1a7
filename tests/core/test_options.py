"""Model options: known names, right values, layers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import pytest

import mellea
from mellea.core.options import (
    _CHECKS,
    Deadlines,
    ModelOption,
    check_options,
    merge_options,
    options,
    scoped_options,
)
from mellea.errors import UsageError
from mellea.testing import ScriptedBackend


def test_a_misspelt_option_names_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match=r"unknown model option 'temperatur'.*did you mean 'temperature'\?"):
        check_options({"temperatur": 0.5})


def test_an_option_like_no_other_gets_the_whole_list() -> None:
    with pytest.raises(UsageError, match=r"known are .*temperature.*extra_headers"):
        check_options({"zzz": 1})


def test_the_value_of_an_unknown_option_isnt_shown() -> None:
    with pytest.raises(UsageError) as caught:
        check_options({"api_key": "sk-secret"})
    assert "sk-secret" not in str(caught.value)


def test_every_option_is_checked() -> None:
    assert set(_CHECKS) == set(ModelOption)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0),
        ("temperature", 1.5),
        ("max_tokens", 1),
        ("top_p", 0),
        ("top_p", 1),
        ("top_k", 0),
        ("min_p", 0.05),
        ("seed", 0),
        ("stop", "END"),
        ("stop", ["a", "b"]),
        ("frequency_penalty", -2),
        ("presence_penalty", 2),
        ("repeat_penalty", 1.1),
        ("system_prompt", "Be brief."),
        ("thinking", False),
        ("thinking", "low"),
        ("tools", []),
        ("tool_choice", "none"),
        ("context_window", 4096),
        ("stream", False),
        ("timeout", 2.5),
        ("timeout", Deadlines(total=3)),
        ("timeout", None),
        ("extra_body", {"x": 1}),
        ("extra_headers", {"X-A": "b"}),
    ],
)
def test_a_right_value_is_kept_as_it_is(name: str, value: Any) -> None:
    checked = check_options({name: value})
    assert checked == {name: value}
    assert type(checked[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", "0"),
        ("temperature", True),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", None),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("top_p", 1.1),
        ("top_k", -1),
        ("seed", -1),
        ("seed", "7"),
        ("stop", [1]),
        ("stop", [""]),
        ("stop", ""),
        ("stop", b"x"),
        ("frequency_penalty", 2.1),
        ("system_prompt", 5),
        ("thinking", 0.5),
        ("tools", "look"),
        ("tool_choice", None),
        ("context_window", 0),
        ("stream", 1),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", float("nan")),
        ("timeout", "5"),
        ("extra_body", [1]),
        ("extra_headers", "X: y"),
    ],
)
def test_a_bad_value_is_refused_with_the_option_and_the_value(name: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        check_options({name: value})
    assert repr(name) in str(caught.value)
    if name not in ("extra_body", "extra_headers"):
        assert repr(value) in str(caught.value)


def test_a_bad_extra_header_doesnt_show_what_may_be_a_key() -> None:
    with pytest.raises(UsageError) as caught:
        check_options({"extra_headers": ["Authorization: Bearer sk-secret"]})
    assert "sk-secret" not in str(caught.value)


def test_the_enum_and_the_plain_name_are_the_same() -> None:
    assert check_options({ModelOption.MAX_NEW_TOKENS: 5}) == check_options({"max_tokens": 5}) == {"max_tokens": 5}
    assert {type(name) for name in check_options({ModelOption.SEED: 1})} == {str}


def test_nothing_is_no_options_and_something_else_is_refused() -> None:
    assert check_options(None) == {}
    with pytest.raises(UsageError, match="takes a dict"):
        check_options([("temperature", 0)])  # type: ignore[arg-type]


def test_what_the_caller_passed_isnt_touched() -> None:
    given = {ModelOption.TEMPERATURE: 0}
    checked = check_options(given)
    checked["seed"] = 1
    assert given == {"temperature": 0}


def test_a_later_layer_goes_before_an_earlier_one_zero_included() -> None:
    assert merge_options({"temperature": 0.7, "seed": 1}, {"temperature": 0}, {}) == {"temperature": 0, "seed": 1}


def test_the_deadlines_have_the_defaults_that_the_guide_names() -> None:
    assert Deadlines() == Deadlines(connect=10, first_byte=120, between_bytes=60, total=None)


@pytest.mark.parametrize(
    ("name", "ours"),
    [("num_predict", "max_tokens"), ("num_ctx", "context_window"), ("system", "system_prompt"), ("headers", "extra_h")],
)
def test_what_others_call_it_leads_to_our_name(name: str, ours: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{ours}"):
        check_options({name: 1})


def test_a_scope_takes_names_or_a_dict() -> None:
    for wrong, said in (("x", "takes a dict"), ([("seed", 1)], "takes a dict")):
        with pytest.raises(UsageError, match=said), options(wrong):  # type: ignore[arg-type]
            pass
    with pytest.raises(UsageError, match=r"options\(temperature=0\)"), options(model_options={"temperature": 0}):
        pass
    with options({"temperature": 0}, seed=1):
        assert scoped_options.get() == {"temperature": 0, "seed": 1}
    assert scoped_options.get() == {}


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
def test_scopes_belong_to_their_task_and_thread_and_end_with_an_error(kind: str) -> None:
    async def one(seed: int) -> Any:
        with suppress(ZeroDivisionError), options(seed=seed):
            await anyio.sleep(0.001 * seed)
            thunk = await m.ainstruct("x", model_options={"top_k": seed}, await_result=False)
            with options(temperature=seed):
                await m.ainstruct("y")
            inside = await anyio.to_thread.run_sync(lambda: m.instruct("z").value)
            await thunk
            raise ZeroDivisionError(inside)
        assert scoped_options.get() == {}

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for seed in range(1, 6):
                group.start_soon(one, seed)
        await m.ainstruct("after")

    backend = ScriptedBackend("a")
    m = mellea.start_session(backend)
    anyio.run(main, backend=kind)
    sent = [(request.messages[-1].content, dict(request.options)) for request in backend.requests]
    for seed in range(1, 6):
        assert ("x", {"seed": seed, "top_k": seed}) in sent
        assert ("y", {"seed": seed, "temperature": seed}) in sent
        assert ("z", {"seed": seed}) in sent
    assert sent[-1] == ("after", {})


def test_a_request_never_shows_what_may_hold_a_key() -> None:
    backend = ScriptedBackend("a")
    hidden = {"extra_headers": {"X-Key": "SECRET"}, "extra_body": {"key": "SECRET"}}
    m = mellea.start_session(backend, model_options=hidden)
    thunk = m.instruct("x", model_options={"temperature": 0})
    assert backend.requests[0].options["extra_headers"] == {"X-Key": "SECRET"}
    assert "'temperature': 0" in repr(backend.requests[0])
    for value in (backend.requests[0], m, thunk, m.ctx, backend, mellea.generative(model_options=hidden)(str.upper)):
        assert "SECRET" not in repr(value)
