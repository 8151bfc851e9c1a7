"""Programs of Mellea 0.8: names, paths and arguments that work as they are."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import subprocess
import sys
from dataclasses import asdict, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Literal

import pytest

import mellea
from mellea import generative
from mellea._mellea_08 import ELSEWHERE, INSTEAD, MISSING, OTHERS
from mellea.core import ToolCall
from mellea.errors import UsageError
from mellea.events import ToolEnd
from mellea.stdlib.context import ChatContext, SimpleContext
from mellea.stdlib.requirements import req, simple_validate
from mellea.stdlib.sampling import RejectionSamplingStrategy
from mellea.testing import ScriptedBackend


@pytest.mark.parametrize("module", ELSEWHERE)
def test_every_name_of_the_table_can_be_imported(module: str) -> None:
    for name in ELSEWHERE[module]:
        namespace: dict[str, object] = {}
        exec(f"from {module} import {name}", namespace)
        assert namespace[name] is not None


@pytest.mark.parametrize("module", ELSEWHERE)
def test_a_name_that_is_ours_is_not_in_the_table(module: str) -> None:
    ours = getattr(import_module(module), "__all__", [])
    is_module_of_the_table = ours == sorted(ELSEWHERE[module])
    assert is_module_of_the_table or not set(ours) & set(ELSEWHERE[module])


def test_a_module_that_nobody_has_is_missing_as_ever() -> None:
    assert find_spec("mellea.core.nothing") is None
    with pytest.raises(ImportError, match=r"cannot import name 'nothing' from 'mellea\.core\.base'"):
        exec("from mellea.core.base import nothing")
    with pytest.raises(AttributeError, match="module 'mellea' has no attribute 'nothing'"):
        _ = mellea.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", INSTEAD)
def test_an_import_of_what_is_not_here_says_what_to_write_instead(module: str) -> None:
    ours = getattr(import_module(module), "__all__", [])
    for name, advice in INSTEAD[module].items():
        assert name not in ours and name not in ELSEWHERE.get(module, {})
        with pytest.raises(ImportError) as caught:
            exec(f"from {module} import {name}")
        assert str(caught.value) == f"{module} has no {name!r} of Mellea 0.8; {advice}"


@pytest.mark.parametrize("module", MISSING)
def test_a_module_that_is_not_here_says_what_to_write_instead(module: str) -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        import_module(module)
    assert str(caught.value) == f"Mellea 0.8's {module} isn't here; {MISSING[module]}"
    with pytest.raises(ModuleNotFoundError, match="isn't here"):
        import_module(f"{module}.inside")


@pytest.mark.parametrize("module", OTHERS)
def test_a_module_of_other_libraries_says_what_to_write_instead(module: str) -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        import_module(module)
    assert str(caught.value) == f"there is no module {module}; {OTHERS[module]}"


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("ChatOpenAI", "mellea.start_session(…) starts a session"),
        ("create_agent", "mellea.Agent(model, tools) works in steps"),
        ("function_tool", "@mellea.tool adds settings"),
        ("ModelRetry", "mellea.req('…', validation_fn=…)"),
        ("BaseModel", "from pydantic import BaseModel"),
        ("generate", "m.instruct(…) or m.chat(…) asks the model"),
        ("chat", "m = mellea.start_session(…), then m.chat"),
    ],
)
def test_a_name_of_other_libraries_is_told_by_our_way_however_it_is_asked_for(name: str, cure: str) -> None:
    with pytest.raises(AttributeError) as asked:
        getattr(mellea, name)
    with pytest.raises(ImportError) as imported:
        exec(f"from mellea import {name}")
    assert cure in str(asked.value) and cure in str(imported.value)
    assert not hasattr(mellea, name)


def test_arguments_of_compactors_name_ours() -> None:
    from mellea.stdlib.context import ThresholdCompactor, WindowCompactor

    with pytest.raises(UsageError, match=r"tokens=… is the limit"):
        ThresholdCompactor(WindowCompactor(2), threshold=1000)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match=r"ctx\.pin"):
        WindowCompactor(2, pin_predicate=len)  # type: ignore[call-arg]


def test_our_own_names_load_nothing_of_the_table() -> None:
    code = "import sys, mellea; mellea.start_session; assert 'mellea._mellea_08' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_mify_is_the_function_also_after_its_module_was_imported() -> None:
    code = (
        "from mellea.stdlib.components.mify import MifiedProtocol, mify as by_module\n"
        "import mellea.stdlib.components\n"
        "from mellea.stdlib.components import mify\n"
        "assert mellea.stdlib.components.mify is mify is by_module\n"
        "@mify(fields_include={'name'})\n"
        "class Store:\n    name = 'North'\n"
        "assert isinstance(Store(), MifiedProtocol) and isinstance(by_module(Store)(), MifiedProtocol)\n"
        "assert not isinstance('', MifiedProtocol)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_sampling_result_has_lists_of_what_the_attempts_were() -> None:
    short = req("Be short.", validation_fn=simple_validate(lambda text: len(text) < 9))
    with mellea.start_session(ScriptedBackend("Much too long.", "Short.")) as m:
        result = m.instruct(
            "Write.", requirements=[short], strategy=RejectionSamplingStrategy(), return_sampling_results=True
        )
    assert [thunk.value for thunk in result.sample_generations] == ["Much too long.", "Short."]
    assert [[outcome.as_bool() for _, outcome in checks] for checks in result.sample_validations] == [[False], [True]]
    assert result.sample_generations.index(result.result) == 1
    assert [str(context) for context in result.sample_contexts] == ["Much too long.", "Short."]
    assert [action.description for action in result.sample_actions] == ["Write.", "Write."]


def weather(city: str) -> str:
    """Look up the weather.

    Args:
        city: name of a city.
    """
    return f"Rain in {city}."


def test_tool_calls_is_true_where_calls_are_shown_and_false_without_tools() -> None:
    backend = ScriptedBackend([ToolEnd(ToolCall("1", "weather", {"city": "Bergen"}))], "Fine.")
    with mellea.start_session(backend) as m:
        shown = m.instruct("How is it?", tools=[weather], tool_calls=True)
        silent = m.instruct("How is it?", tools=[weather], tool_calls=False)
    assert [call.tool_args for call in shown.tool_calls] == [{"city": "Bergen"}]
    assert silent.value == "Fine."
    assert [len(request.tools) for request in backend.requests] == [1, 0]


def test_tool_calls_of_any_other_kind_are_refused() -> None:
    with mellea.start_session(ScriptedBackend("x")) as m, pytest.raises(UsageError, match="'show' or 'run', not 1"):
        m.instruct("x", tool_calls=1)  # type: ignore[call-overload]


def test_a_mellea_tool_is_a_tool() -> None:
    from mellea.backends import MelleaTool, tool  # type: ignore[attr-defined]

    made = MelleaTool.from_callable(weather, "forecast")
    assert (made.name, made.run("Oslo"), made.run(city="Oslo")) == ("forecast", "Rain in Oslo.", "Rain in Oslo.")
    function = made.as_json_tool["function"]
    assert (function["name"], list(function["parameters"]["properties"])) == ("forecast", ["city"])
    assert isinstance(tool(weather), MelleaTool)


def test_a_call_of_a_tool_knows_its_function() -> None:
    asked = ToolEnd(ToolCall("1", "weather", {"city": "Bergen"}))
    with mellea.start_session(ScriptedBackend([asked], [asked])) as m:
        [call] = m.instruct("How is it?", tools=[weather], tool_calls=True).tool_calls
        [unknown] = m.instruct("How is it?").tool_calls
    assert (call.name, call.args, call.call_func()) == ("weather", {"city": "Bergen"}, "Rain in Bergen.")
    # It is no part of the value: what is compared, copied or written is what the model said.
    assert call == replace(call) == unknown
    assert json.loads(json.dumps(asdict(call)))["tool_name"] == "weather"
    assert pickle.loads(pickle.dumps(call)) == call
    with pytest.raises(UsageError, match=r"tool\(\*\*call\.tool_args\)"):
        replace(call).call_func()


async def test_a_call_of_an_async_tool_returns_what_is_to_be_awaited(anyio_backend: object) -> None:
    async def look_up(city: str) -> str:
        """Look up the weather."""
        return f"Rain in {city}."

    backend = ScriptedBackend([ToolEnd(ToolCall("1", "look_up", {"city": "Bergen"}))])
    async with mellea.start_session(backend) as m:
        answer = await m.ainstruct("How is it?", tools=[look_up], tool_calls=True)
    assert await answer.tool_calls[0].call_func() == "Rain in Bergen."


@pytest.mark.parametrize("context", [SimpleContext(), ChatContext(), ChatContext(pinned=["Be kind."], window_size=2)])
def test_contexts_go_back_from_node_to_node(context: SimpleContext | ChatContext) -> None:
    answer = mellea.ComputedModelOutputThunk("Fine.")
    said = context.add("How are you?").add(answer)
    assert said.node_data is answer
    assert said.previous_node is not None
    assert said.previous_node.node_data == "How are you?"
    before = said.previous_node.previous_node
    assert before is not None
    assert before.as_list() == context.as_list()
    assert (ChatContext().node_data, ChatContext().previous_node) == (None, None)


def test_the_answer_of_a_judge_is_known() -> None:
    verdict = '{"reason": "It is.", "verdict": "yes"}'
    with mellea.start_session(ScriptedBackend("Short.", verdict)) as m:
        result = m.instruct("Write.", requirements=["Be short."], return_sampling_results=True)
    [(_, outcome)] = result.sample_validations[0]
    assert outcome.thunk is not None
    assert outcome.thunk.value == verdict
    assert outcome.context is not None
    assert outcome.context.node_data is outcome.thunk
    assert mellea.core.ValidationResult(True).context is None


class Store:
    def __init__(self, purchases: list[str]) -> None:
        self.purchases = purchases


def test_one_object_can_be_mified() -> None:
    from mellea.stdlib.components.mify import MifiedProtocol, mify  # type: ignore[import-not-found]

    store, other = Store(["Beans"]), Store([])
    assert mify(store) is store
    assert isinstance(store, MifiedProtocol)
    assert not isinstance(other, MifiedProtocol)
    again = pickle.loads(pickle.dumps(store))
    deep = copy.deepcopy(store)
    again.purchases.append("Soil")
    assert store.format_for_llm().args["fields"] == {"purchases": ["Beans"]}
    assert deep.format_for_llm().args["fields"] == {"purchases": ["Beans"]}
    assert again.format_for_llm().args["fields"] == {"purchases": ["Beans", "Soil"]}
    backend = ScriptedBackend("x")
    mellea.start_session(backend).act(store)
    assert "Beans" in backend.prompts[0]
    assert "format_for_llm" not in backend.prompts[0]


@pytest.mark.parametrize(("mode", "is_repaired"), [("fresh_start", False), ("continue_chat", True)])
def test_both_models_of_sofai_are_arguments(mode: str, is_repaired: bool) -> None:
    from mellea.stdlib.sampling.sofai import SOFAISamplingStrategy  # type: ignore[import-not-found]

    fast, slow, third = ScriptedBackend("No.", "No, again."), ScriptedBackend("Yes."), ScriptedBackend("Never asked.")
    strategy = SOFAISamplingStrategy(fast, slow, mode, loop_budget=2)
    wanted = req("Agree.", validation_fn=simple_validate(lambda text: text == "Yes."))
    with mellea.start_session(third) as m:
        assert m.instruct("Well?", requirements=[wanted], strategy=strategy).value == "Yes."
    assert [len(each.requests) for each in (fast, slow, third)] == [2, 1, 0]
    assert ("No" in slow.prompts[0]) is is_repaired
    with pytest.raises(UsageError, match="req"):
        SOFAISamplingStrategy(fast, slow, judge_backend=third)
    with pytest.raises(UsageError, match="best_attempt, not 'slow'"):
        SOFAISamplingStrategy(fast, slow, "slow")


def test_a_backend_is_started_with_a_context() -> None:
    from mellea import start_backend  # type: ignore[attr-defined]

    ctx, backend = start_backend(context_type="chat")
    assert isinstance(ctx, ChatContext)
    assert (backend.name, backend.model_id) == ("ollama", "granite4.2:3b")
    assert isinstance(start_backend(model_id=mellea.backends.model_ids.QWEN3_8B)[0], SimpleContext)
    with pytest.raises(UsageError, match="give one"):
        start_backend(ctx=ctx, context_type="simple")


def test_a_context_is_a_list_of_messages() -> None:
    from mellea.stdlib.components.chat import as_chat_history  # type: ignore[import-not-found]

    ctx = ChatContext().add("Hello.").add(mellea.ComputedModelOutputThunk("Hi."))
    assert [(message.role, message.text) for message in as_chat_history(ctx)] == [
        ("user", "Hello."),
        ("assistant", "Hi."),
    ]
    with pytest.raises(UsageError, match="a context of messages"):
        as_chat_history(ChatContext().add(mellea.stdlib.components.Instruction("Write.")))


def test_the_logger_is_that_of_the_library() -> None:
    from mellea.core import MelleaLogger  # type: ignore[attr-defined]

    assert MelleaLogger.get_logger() is logging.getLogger("mellea")


def test_the_last_prompt_is_that_of_the_last_call() -> None:
    with mellea.start_session(ScriptedBackend("One.", "positive"), ctx=ChatContext()) as m:
        assert m.last_prompt() is None
        m.chat("Hello {{name}}", user_variables={"name": "Ann"})
        assert m.last_prompt() == [{"role": "user", "content": "Hello Ann"}]
        classify(m, text="Nice!")
        assert [said["role"] for said in m.last_prompt() or []] == ["user", "assistant", "user"]


def test_the_last_prompt_is_known_when_its_thunk_is_gone() -> None:
    with mellea.start_session(ScriptedBackend("positive")) as m:
        assert classify(m, text="Nice!") == "positive"
        assert "Nice!" in (m.last_prompt() or [{}])[-1]["content"]


def test_chat_fills_its_variables_into_a_text_alone() -> None:
    with mellea.start_session(ScriptedBackend("x")) as m:
        with pytest.raises(UsageError, match="user_variables fills in a text, not Message"):
            m.chat(mellea.user_message("Hello {{name}}"), user_variables={"name": "Ann"})
        with pytest.raises(UsageError, match="'name'"):
            m.chat("Hello.", user_variables={"name": "Ann"})


def test_values_of_chat_are_no_templates() -> None:
    backend = ScriptedBackend("x")
    with mellea.start_session(backend) as m:
        m.chat("Say {{text}}", user_variables={"text": "{{ 7 * 7 }}"})
    assert backend.prompts == ["Say {{ 7 * 7 }}"]


@generative
def classify(text: str) -> Literal["positive", "negative"]:
    """Classify the sentiment of the text."""


@generative
async def shorten(text: str) -> str:
    """Shorten the text."""


def test_a_function_takes_a_context_and_a_backend_and_returns_the_next_context() -> None:
    backend = ScriptedBackend("positive", "negative")
    first, context = classify(context=ChatContext(), backend=backend, text="Nice!")  # type: ignore[call-arg, misc]
    second, context = classify(context, backend, text="Bad!")  # type: ignore[misc, has-type]
    assert (first, second) == ("positive", "negative")
    assert [str(turn.output) for turn in context.turns()] == ["positive", "negative"]
    assert len(backend.requests[-1].messages) == 3


@pytest.mark.anyio
async def test_an_async_function_takes_them_too() -> None:
    context = SimpleContext()
    result, after = await shorten(context=context, backend=ScriptedBackend("Short."), text="Long.")  # type: ignore[call-arg, misc]
    assert result == "Short."
    assert after is not context


def test_preconditions_have_their_former_name() -> None:
    from mellea.stdlib.components.genstub import PreconditionException  # type: ignore[import-not-found]

    backend = ScriptedBackend("positive")
    one_word = req("One word.", validation_fn=simple_validate(lambda text: (False, "There are two.")))
    with mellea.start_session(backend) as m, pytest.raises(PreconditionException) as caught:
        classify(m, text="Two words.", precondition_requirements=[one_word])  # type: ignore[call-arg]
    assert [result.reason for result in caught.value.validation] == ["There are two."]
    assert backend.requests == []


def test_get_session_is_the_session_of_the_block() -> None:
    from mellea.stdlib.session import get_session  # type: ignore[attr-defined]

    with mellea.start_session(ScriptedBackend("x")) as m:
        assert get_session() is m


def test_a_thunk_of_a_known_text_is_computed() -> None:
    thunk = mellea.ModelOutputThunk[str](value="x")
    assert isinstance(thunk, mellea.ComputedModelOutputThunk)
    assert (thunk.value, thunk.parsed, thunk.is_computed()) == ("x", "x", True)


def test_only_contexts_that_show_turns_are_chat_contexts() -> None:
    assert (ChatContext().is_chat_context, SimpleContext().is_chat_context) == (True, False)


def test_a_constant_names_a_model_in_its_places() -> None:
    from mellea.backends import model_ids

    assert model_ids.QWEN3_8B == "qwen3:8b" == model_ids.QWEN3_8B.ollama_name
    assert model_ids.QWEN3_8B.hf_model_name == "Qwen/Qwen3-8B"
    assert model_ids.OPENAI_GPT_5_1 == "gpt-5.1" == model_ids.OPENAI_GPT_5_1.openai_name
    with mellea.start_session("ollama", model_ids.QWEN3_8B) as m:
        assert m.backend.model_id == "qwen3:8b"


@pytest.mark.parametrize("name", ["Session", "Client", "OpenAI"])
def test_what_other_libraries_begin_with_is_answered_by_start_session(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"no attribute '{name}'; mellea.start_session\(…\) starts a session"):
        getattr(mellea, name)
