"""Loops that wait for people: what needn't ask is finished, the rest goes on from the state, nothing is done twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mellea import user_message
from mellea.core import Message, ToolCall, ToolOutput
from mellea.core.events import StepEnd, StepStart, StreamEnd, TextDelta, ToolResult
from mellea.errors import ToolLoopLimitError, UsageError
from mellea.stdlib.tools import (
    Allow,
    Ask,
    Deny,
    Edited,
    LoopProgress,
    LoopState,
    Step,
    ToolLoop,
    ToolReturn,
    give_answers,
    nest_progress,
    tool,
)
from mellea.testing import ScriptedBackend
from tests.stdlib.tools.chat_loop import START, ChatTask, Ended, call, work

pytestmark = pytest.mark.anyio


class Shop:
    """Tools that note when they run."""

    def __init__(self) -> None:
        self.ran: list[str] = []

        @tool
        def look(place: str) -> str:
            """Look somewhere."""
            self.ran.append(f"look {place}")
            return f"a cat in {place}"

        @tool(requires_approval=True)
        def buy(what: str, count: int = 1) -> str:
            """Buy something."""
            self.ran.append(f"buy {count} {what}")
            return f"bought {count} {what}"

        @tool(requires_approval=lambda amount: amount > 10)
        def pay(amount: int) -> str:
            """Pay."""
            self.ran.append(f"pay {amount}")
            return f"paid {amount}"

        @tool(runs="outside")
        def measure(place: str) -> float:
            """Measure the temperature."""
            raise AssertionError("its body is never called")

        self.tools = [look, buy, pay, measure]


async def suspended(*calls: Any, shop: Shop, loop: ToolLoop | None = None) -> Ended:
    ended = await work(ScriptedBackend(["Well.", *calls]), shop.tools, loop=loop)
    assert ended.progress.is_waiting
    return ended


async def resumed(
    ended: Ended, answers: dict[str, Any], shop: Shop, *replies: Any, loop: ToolLoop | None = None
) -> tuple[Ended, ScriptedBackend]:
    backend = ScriptedBackend(*(replies or ("Done.",)))
    return await work(backend, shop.tools, give_answers(ended.state, answers), loop), backend


async def test_calls_that_need_not_ask_are_finished_before_the_run_waits() -> None:
    shop = Shop()
    ended = await suspended(call("buy", 1, what="tea"), call("look", 2, place="Rome"), shop=shop)
    assert shop.ran == ["look Rome"]
    [question] = ended.state.questions
    assert (question.id, question.kind, question.path) == ("c1", "approval", "")
    assert question.call == ToolCall("c1", "buy", {"what": "tea"})
    assert '\'buy\' with the arguments {"what": "tea"}' in question.text
    assert ended.state.outputs == {"c2": ToolOutput("c2", "look", "a cat in Rome")}
    assert ended.events[0] == StepStart(1) and isinstance(ended.events[-1], StreamEnd)
    assert StepEnd(1) not in ended.events


async def test_a_resumed_run_asks_the_model_only_for_what_is_next_and_has_the_results_in_order() -> None:
    shop = Shop()
    ended = await suspended(call("buy", 1, what="tea"), call("look", 2, place="Rome"), shop=shop)
    done, backend = await resumed(ended, {"c1": True}, shop)
    assert (done.text, shop.ran) == ("Done.", ["look Rome", "buy 1 tea"])
    [request] = backend.requests
    assert request.messages == (
        user_message("Do it."),
        Message(
            "assistant", ["Well.", ToolCall("c1", "buy", {"what": "tea"}), ToolCall("c2", "look", {"place": "Rome"})]
        ),
        Message("tool", ToolOutput("c1", "buy", "bought 1 tea")),
        Message("tool", ToolOutput("c2", "look", "a cat in Rome")),
    )
    assert done.events == [
        ToolResult(ToolOutput("c1", "buy", "bought 1 tea")),
        StepEnd(1),
        StepStart(2),
        TextDelta("Done."),
        StepEnd(2),
        StreamEnd("stop", "script-1", "script"),
    ]
    assert done.state.is_done and done.state.step == 2


@pytest.mark.parametrize(
    ("answer", "result", "ran"),
    [
        (True, "bought 1 tea", ["buy 1 tea"]),
        (False, "this call was not run: a person declined it", []),
        (Deny("too dear"), "too dear", []),
        (Edited({"what": "milk", "count": 2}), "bought 2 milk", ["buy 2 milk"]),
    ],
)
async def test_an_approval_is_answered_by_yes_no_a_reason_or_other_arguments(
    answer: Any, result: str, ran: list[str]
) -> None:
    shop = Shop()
    ended = await suspended(call("buy", what="tea"), shop=shop)
    done, _ = await resumed(ended, {"c1": answer}, shop)
    assert (done.results, shop.ran) == ([result], ran)


async def test_a_result_from_outside_is_the_tools_result() -> None:
    shop = Shop()
    ended = await suspended(call("measure", 1, place="Rome"), call("measure", 2, place="Oslo"), shop=shop)
    assert ended.questions == {"c1": "outside", "c2": "outside"}
    done, _ = await resumed(ended, {"c2": Deny("no sensor"), "c1": ToolReturn(21.5, "21.5 °C")}, shop)
    assert done.results == ["21.5 °C", "no sensor"]
    assert [event.result.value for event in done.events if isinstance(event, ToolResult)] == [21.5, None]


@pytest.mark.parametrize("result", [False, 0, None, {"a": [1]}])
async def test_any_value_with_a_json_form_is_a_result_from_outside(result: Any) -> None:
    shop = Shop()
    ended = await suspended(call("measure", place="Rome"), shop=shop)
    done, _ = await resumed(ended, {"c1": result}, shop)
    assert done.results == [result]


async def test_what_isnt_answered_stays_pending_and_the_model_is_asked_once_all_are() -> None:
    shop = Shop()
    ended = await suspended(call("buy", 1, what="tea"), call("buy", 2, what="jam"), shop=shop)
    halfway, backend = await resumed(ended, {"c2": True}, shop)
    assert (shop.ran, halfway.questions, backend.requests) == (["buy 1 jam"], {"c1": "approval"}, [])
    same, backend = await resumed(halfway, {}, shop)
    assert (same.state, backend.requests) == (halfway.state, [])
    done, backend = await resumed(same, {"c1": True}, shop)
    assert shop.ran == ["buy 1 jam", "buy 1 tea"] and len(backend.requests) == 1
    assert done.results == ["bought 1 tea", "bought 1 jam"]


async def test_a_tool_may_require_approval_for_some_arguments_only() -> None:
    shop = Shop()
    ended = await suspended(call("pay", 1, amount=5), call("pay", 2, amount=50), shop=shop)
    assert (shop.ran, ended.questions) == (["pay 5"], {"c2": "approval"})


async def test_arguments_that_dont_fit_ask_nobody() -> None:
    shop = Shop()
    calls = [call("buy", 1, how="x"), call("measure", 2), call("steal", 3)]
    ended = await work(ScriptedBackend(calls, "Sorry."), shop.tools, loop=ToolLoop(policy=lambda _: Ask("sure?")))
    assert not ended.progress.is_waiting and ended.text == "Sorry."
    assert "the argument 'what' is missing" in ended.results[0]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"c9": True}, "no open question 'c9'; the open ones are 'c1', 'c2'"),
        ({"c1": "yes"}, "the question 'c1' takes True, False, Deny\\(reason\\) or Edited\\(args\\), not 'yes'"),
        ({"c2": Edited({})}, "the tool of 'c2' runs outside; give its result"),
        ([True], "answers takes a dict"),
    ],
)
async def test_answers_that_dont_fit_their_questions_are_refused(answers: Any, said: str) -> None:
    shop = Shop()
    ended = await suspended(call("buy", 1, what="tea"), call("measure", 2, place="Rome"), shop=shop)
    with pytest.raises(UsageError, match=said):
        give_answers(ended.state, answers)


async def test_a_result_from_outside_needs_a_json_form() -> None:
    shop = Shop()
    ended = await suspended(call("measure", place="Rome"), shop=shop)
    for result in (object(), [object()], ToolReturn(1, object())):
        with pytest.raises(UsageError, match="the result of 'c1' needs a JSON form"):
            await resumed(ended, {"c1": result}, shop)


async def test_a_yes_to_a_tool_that_isnt_there_is_refused() -> None:
    shop = Shop()
    ended = await suspended(call("buy", 1, what="tea"), shop=shop)
    others = [each for each in shop.tools if each.name != "buy"]
    with pytest.raises(UsageError, match=r"'c1' was approved, but there is no tool 'buy'; .* nothing was run"):
        await work(ScriptedBackend("x"), others, give_answers(ended.state, {"c1": True}))
    assert (await work(ScriptedBackend("x"), others, give_answers(ended.state, {"c1": False}))).text == "x"


async def test_a_finished_call_cant_be_answered_again() -> None:
    shop = Shop()
    ended = await suspended(call("buy", 1, what="tea"), call("buy", 2, what="jam"), shop=shop)
    halfway, _ = await resumed(ended, {"c2": True}, shop)
    with pytest.raises(UsageError, match="no open question 'c2'"):
        give_answers(halfway.state, {"c2": True})


async def test_edited_arguments_outside_the_schema_are_refused_before_anything_runs() -> None:
    shop = Shop()
    ended = await suspended(call("buy", 1, what="tea"), call("buy", 2, what="jam"), shop=shop)
    with pytest.raises(
        UsageError, match=r"the edited arguments of 'c1' don't fit the tool 'buy'.*'count' is not valid"
    ):
        await resumed(ended, {"c1": Edited({"what": "tea", "count": "many"}), "c2": True}, shop)
    with pytest.raises(UsageError, match="there is no argument 'colour'"):
        await resumed(ended, {"c1": Edited({"what": "tea", "colour": "red"})}, shop)
    assert shop.ran == []
    done, _ = await resumed(ended, {"c1": Edited({"what": "tea"}), "c2": True}, shop)
    assert sorted(shop.ran) == ["buy 1 jam", "buy 1 tea"] and done.text == "Done."


# -- policies ----------------------------------------------------------------------------------------------


async def test_a_policy_that_asks_waits_and_a_human_yes_satisfies_it() -> None:
    shop = Shop()
    asked = []

    def policy(call: ToolCall) -> Ask:
        asked.append(dict(call.tool_args))
        return Ask("May it look?")

    loop = ToolLoop(policy=policy)
    ended = await suspended(call("look", place="Rome"), shop=shop, loop=loop)
    assert [question.text for question in ended.state.questions] == ["May it look?"]
    done, _ = await resumed(ended, {"c1": Edited({"place": "Oslo"})}, shop, loop=loop)
    assert (done.text, shop.ran) == ("Done.", ["look Oslo"])
    assert asked == [{"place": "Rome"}, {"place": "Oslo"}], "it is asked again, about the edited call"


@pytest.mark.parametrize("answer", [True, Edited({"place": "Mars"})])
async def test_a_policys_deny_wins_over_a_human_yes(answer: Any) -> None:
    shop = Shop()
    ended = await suspended(call("look", place="Rome"), shop=shop, loop=ToolLoop(policy=lambda _: Ask("sure?")))
    done, _ = await resumed(ended, {"c1": answer}, shop, loop=ToolLoop(policy=lambda _: Deny("not today")))
    assert (done.results, shop.ran) == (["not today"], [])


async def test_a_policy_sees_the_answer() -> None:
    shop = Shop()
    seen = []

    async def policy(call: ToolCall, answer: Any = None) -> Allow | Ask:
        seen.append(answer)
        return Allow() if call.tool_name == "measure" else Ask("sure?")

    loop = ToolLoop(policy=policy)
    ended = await suspended(call("look", 1, place="Rome"), call("measure", 2, place="Rome"), shop=shop, loop=loop)
    await resumed(ended, {"c1": True, "c2": 7}, shop, loop=loop)
    assert seen == [None, None, True, 7]


async def test_a_policy_that_allows_meanwhile_lets_the_call_run_without_an_answer() -> None:
    shop = Shop()
    ended = await suspended(call("look", place="Rome"), shop=shop, loop=ToolLoop(policy=lambda _: Ask("sure?")))
    done, _ = await resumed(ended, {}, shop, loop=ToolLoop(policy=lambda _: Allow()))
    assert (done.text, shop.ran) == ("Done.", ["look Rome"])


# -- steps, limits, what was said meanwhile ----------------------------------------------------------------


async def test_steps_count_on_through_a_resume_and_so_does_their_limit() -> None:
    shop = Shop()
    ended = await work(ScriptedBackend([call("look", place="Rome")], [call("buy", 2, what="tea")]), shop.tools)
    assert ended.state.step == 2
    with pytest.raises(ToolLoopLimitError, match="asked 3 times"):
        await resumed(ended, {"c2": True}, shop, [call("look", 3, place="Oslo")], loop=ToolLoop(max_steps=3))
    assert shop.ran == ["look Rome", "buy 1 tea"]


async def test_a_loop_waits_again_and_again() -> None:
    shop = Shop()
    ended = await suspended(call("buy", 1, what="a"), shop=shop)
    for number in range(2, 6):
        ended, backend = await resumed(
            ended, {f"c{number - 1}": True}, shop, [call("buy", number, what="a")], loop=ToolLoop(max_steps=9)
        )
        assert (ended.questions, len(backend.requests)) == ({f"c{number}": "approval"}, 1)
    assert len(shop.ran) == 4 and ended.state.step == 5


async def test_what_was_said_before_a_run_waits_is_told_in_the_next_step() -> None:
    shop = Shop()
    progress = LoopProgress(START)

    class Late(ChatTask):
        def find_limit(self, step: Step, answer: object) -> None:
            progress.added.append(user_message("Hurry."))

    ended = await work(ScriptedBackend([call("buy", what="tea")]), shop.tools, progress, task=Late)
    assert ended.state.added == (user_message("Hurry."),)
    _, backend = await resumed(ended, {"c1": True}, shop)
    assert [message.role for message in backend.requests[0].messages] == ["user", "assistant", "tool", "user"]


async def test_a_state_that_is_done_gives_its_answer_again_and_asks_nobody() -> None:
    ended = await work(ScriptedBackend("The end."), [])
    again = await work(backend := ScriptedBackend("x"), [], ended.state)
    assert (again.text, backend.requests, again.state) == ("The end.", [], ended.state)


async def test_two_calls_with_one_id_have_a_question_each() -> None:
    shop = Shop()
    ended = await suspended(call("buy", 1, what="tea"), call("buy", 1, what="jam"), shop=shop)
    assert list(ended.questions) == ["c1", "c1#2"]
    done, _ = await resumed(ended, {"c1": False, "c1#2": True}, shop)
    assert shop.ran == ["buy 1 jam"] and done.results[1] == "bought 1 jam"


# -- what is saved -----------------------------------------------------------------------------------------


async def saving(backend: ScriptedBackend, tools: Any, begin: LoopState = START) -> list[LoopState]:
    states: list[LoopState] = []

    async def save(state: LoopState) -> None:
        states.append(state)

    await work(backend, tools, LoopProgress(begin, save=save))
    return states


async def test_the_state_is_saved_after_each_answer_and_each_finished_tool() -> None:
    shop = Shop()
    calls = [call("look", 1, place="Rome"), call("look", 2, place="Oslo")]
    states = await saving(ScriptedBackend(calls, "Done."), shop.tools)
    told = [(state.step, sorted(state.outputs), state.is_done) for state in states]
    assert told[0] == (1, [], False) and told[-1] == (2, [], True)
    assert {len(outputs) for step, outputs, _ in told if step == 1} >= {0, 2}


async def test_from_every_saved_state_the_run_comes_to_the_same_end_and_no_finished_tool_runs_again() -> None:
    shop = Shop()
    calls = [call("look", 1, place="Rome"), call("look", 2, place="Oslo")]
    states = await saving(ScriptedBackend(calls, [call("look", 3, place="Bonn")], "Done."), shop.tools)
    whole = states[-1]
    for state in states:
        shop.ran.clear()
        replies: list[Any] = [[call("look", 3, place="Bonn")], "Done."][state.step - 1 :]
        ended = await work(ScriptedBackend(*replies, "x"), shop.tools, state)
        assert ended.state.messages == whole.messages
        finished = {"c1": "Rome", "c2": "Oslo", "c3": "Bonn"}
        told = {block.tool_call_id for message in state.messages for block in message.blocks if message.role == "tool"}  # type: ignore[union-attr]
        assert not {f"look {finished[key]}" for key in {*state.outputs, *told}} & set(shop.ran)


async def test_a_resumed_run_saves_its_answers_before_anything_runs() -> None:
    shop = Shop()
    ended = await suspended(call("buy", 1, what="tea"), shop=shop)
    states = await saving(ScriptedBackend("Done."), shop.tools, give_answers(ended.state, {"c1": True}))
    assert (states[0].answers, states[0].outputs) == ({"c1": True}, {})
    again = await work(ScriptedBackend("Done."), shop.tools, states[0])
    assert again.text == "Done.", "the answer needn't be given again"


async def test_questions_that_come_up_on_resuming_are_saved() -> None:
    shop = Shop()
    states = await saving(ScriptedBackend([call("buy", what="tea")]), shop.tools)
    assert [len(state.questions) for state in states] == [0, 1]
    again = await saving(ScriptedBackend("x"), shop.tools, states[0])  # killed before it could ask
    assert [len(state.questions) for state in again] == [1]
    assert await saving(ScriptedBackend("x"), shop.tools, again[0]) == [], "nothing is new"


async def test_a_save_that_fails_ends_the_run_with_its_error_before_the_next_tool_or_request() -> None:
    shop = Shop()

    async def save(state: LoopState) -> None:
        raise OSError("the disk is full")

    backend = ScriptedBackend([call("look", place="Rome")], "Done.")
    with pytest.raises(Exception, match="the disk is full"):
        await work(backend, shop.tools, LoopProgress(START, save=save))
    assert (shop.ran, len(backend.requests)) == ([], 1)


# -- loops inside tools ------------------------------------------------------------------------------------


def researcher(backend: ScriptedBackend, shop: Shop) -> Any:
    """Return a tool that is a loop of its own, as a sub-agent is."""

    @tool
    async def research(task: str) -> str:
        """Find something out."""
        progress = nest_progress((user_message(task),))
        ended = await work(backend, shop.tools, progress)
        progress.raise_if_waiting()
        return ended.text

    return research


async def test_questions_of_a_loop_inside_a_tool_come_out_with_their_path_and_go_back_in() -> None:
    shop = Shop()
    inner = ScriptedBackend([call("look", 7, place="Rome")], ["Hm.", call("buy", 8, what="tea")], "Found.")
    tools = [researcher(inner, shop), *shop.tools]
    outer = ScriptedBackend([call("research", 1, task="tea"), call("look", 2, place="Oslo")], "Done.")
    ended = await work(outer, tools)
    [question] = ended.state.questions
    assert (question.id, question.path, question.call.tool_name) == ("c1/c8", "research/2", "buy")
    assert sorted(shop.ran) == ["look Oslo", "look Rome"]
    done = await work(outer, tools, give_answers(ended.state, {"c1/c8": True}))
    assert (done.text, done.results) == ("Done.", ["Found.", "a cat in Oslo"])
    assert sorted(shop.ran) == ["buy 1 tea", "look Oslo", "look Rome"]
    assert (len(inner.requests), len(outer.requests)) == (3, 2)


async def test_a_loop_inside_a_tool_that_still_waits_isnt_run() -> None:
    shop = Shop()
    inner = ScriptedBackend([call("buy", 8, what="tea")], "Found.")
    tools = [researcher(inner, shop), *shop.tools]
    ended = await work(ScriptedBackend([call("research", 1, task="tea"), call("buy", 2, what="jam")]), tools)
    assert list(ended.questions) == ["c2", "c1/c8"]
    halfway = await work(ScriptedBackend("x"), tools, give_answers(ended.state, {"c2": True}))
    assert (list(halfway.questions), shop.ran, len(inner.requests)) == (["c1/c8"], ["buy 1 jam"], 1)
    done = await work(ScriptedBackend("Done."), tools, give_answers(halfway.state, {"c1/c8": Deny("no")}))
    assert (done.text, done.results) == ("Done.", ["Found.", "bought 1 jam"])


async def test_edited_arguments_inside_a_tool_are_checked_before_anything_runs() -> None:
    shop = Shop()
    inner = ScriptedBackend([call("buy", 8, what="tea")], "Found.")
    research = researcher(inner, shop)

    research.inner_tools = tuple(shop.tools)
    ended = await work(
        ScriptedBackend([call("research", 1, task="tea"), call("buy", 2, what="jam")]), [research, *shop.tools]
    )
    answers = {"c1/c8": Edited({"what": 5}), "c2": True}
    with pytest.raises(UsageError, match="the edited arguments of 'c1/c8' don't fit"):
        await work(ScriptedBackend("x"), [research, *shop.tools], give_answers(ended.state, answers))
    assert shop.ran == []


async def test_a_loop_three_deep_goes_on_where_each_of_them_stood() -> None:
    shop = Shop()
    lowest = ScriptedBackend([call("buy", 1, what="tea")], "low")
    middle = ScriptedBackend([call("research", 1, task="b")], "mid")

    @tool
    async def manage(task: str) -> str:
        """Have it found out."""
        progress = nest_progress((user_message(task),))
        ended = await work(middle, [researcher(lowest, shop)], progress)
        progress.raise_if_waiting()
        return ended.text

    top = ScriptedBackend([call("manage", 1, task="a")], "top")
    ended = await work(top, [manage])
    [question] = ended.state.questions
    assert (question.id, question.path) == ("c1/c1/c1", "manage/1/research/1")
    done = await work(top, [manage], give_answers(ended.state, {"c1/c1/c1": True}))
    assert done.text == "top" and shop.ran == ["buy 1 tea"]
    assert [len(backend.requests) for backend in (lowest, middle, top)] == [2, 2, 2]


async def test_states_saved_inside_a_tool_are_part_of_the_outer_state() -> None:
    shop = Shop()
    inner = ScriptedBackend([call("look", 7, place="Rome")], "Found.")
    tools = [researcher(inner, shop)]
    states = await saving(ScriptedBackend([call("research", task="x")], "Done."), tools)
    midway = next(state for state in states if "c1" in state.nested and state.nested["c1"].outputs)
    shop.ran.clear()
    again = await work(ScriptedBackend("Done."), [researcher(ScriptedBackend("Found."), shop)], midway)
    assert (again.text, again.results, shop.ran) == ("Done.", ["Found."], [])


async def test_a_plain_call_has_nobody_to_ask_and_neither_have_the_loops_inside_its_tools() -> None:
    shop = Shop()
    inner = ScriptedBackend([call("buy", 8, what="tea")], "Found.")
    progress = LoopProgress(START, can_wait=False)
    ended = await work(ScriptedBackend([call("research", task="x")], "Done."), [researcher(inner, shop)], progress)
    assert ended.text == "Done." and "a plain call can't ask anybody" in ended.results[0]
    assert replace(ended.state, messages=()).questions == () and shop.ran == []
