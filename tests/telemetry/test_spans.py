"""OpenTelemetry spans of a program's calls: the tree, the conventions' names, and no content unless asked for."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest
from opentelemetry import trace as otel
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.trace import SpanKind, StatusCode

import mellea
from mellea.backends.openai import OpenAIBackend
from mellea.core import ToolCall, Usage
from mellea.core.events import KeepAlive, TextDelta, ToolEnd
from mellea.errors import RateLimitError
from mellea.stdlib.requirements import check, contains, excludes, length, req, simple_validate
from mellea.stdlib.sampling import RejectionSamplingStrategy
from mellea.testing import Pause, ScriptedBackend
from tests.telemetry.conftest import Seen

pytestmark = pytest.mark.anyio

Enable = Callable[..., Seen]

KEY = "sk-planted-0123456789abcdef"
PASSWORD = "correct horse battery"


def session(*replies: Any, **kwargs: Any) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*replies, **kwargs))


def attributes(span: Any) -> dict[str, Any]:
    return dict(span.attributes)


async def test_a_call_is_a_chat_span_with_the_conventions_names(enabled: Enable) -> None:
    seen, m = enabled(), session(["The ", "sea"], usage=Usage(3, 4, cached_tokens=2, reasoning_tokens=1))
    m.id = "conversation 7"
    options = {"temperature": 0.5, "max_tokens": 100, "stop": ["END"], "seed": 7}
    await m.ainstruct("What colour is the sea?", name="colour", model_options=options)
    (span,) = seen.spans
    assert (span.name, span.kind, span.status.status_code) == ("chat script", SpanKind.CLIENT, StatusCode.UNSET)
    found = attributes(span)
    assert 0 <= found.pop("gen_ai.response.time_to_first_chunk") < 5
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "script",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.seed": 7,
        "gen_ai.output.type": "text",
        "gen_ai.prompt.name": "colour",
        "gen_ai.response.id": "script-1",
        "gen_ai.response.model": "script",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.reasoning.output_tokens": 1,
        "session.id": "conversation 7",
    }


async def test_a_strategy_is_a_workflow_of_attempts_and_checks(enabled: Enable) -> None:
    seen = enabled()
    m = session("no", "yes", '{"reason": "fine", "verdict": "yes"}', usage=Usage(1, 1))

    def is_yes(text: str) -> tuple[bool, str]:
        return text == "yes", "it is no"

    await m.ainstruct("x", name="pick", requirements=[check("is yes", validation_fn=simple_validate(is_yes))])
    assert seen.tree() == [
        "invoke_workflow pick",
        "  attempt 1",
        "    chat script",
        "    check",
        "  attempt 2",
        "    chat script",
        "    check",
    ]
    whole = seen.span("invoke_workflow pick")
    assert whole.kind is SpanKind.INTERNAL
    assert attributes(whole)["gen_ai.workflow.name"] == "pick"
    checks = [span for span in seen.spans if span.name == "check"]
    results = [(event.name, dict(event.attributes or {})) for span in checks for event in span.events]
    assert results == [
        (
            "gen_ai.evaluation.result",
            {
                "gen_ai.evaluation.name": "is_yes",
                "gen_ai.evaluation.score.label": label,
                "gen_ai.evaluation.score.value": value,
            },
        )
        for label, value in (("fail", 0.0), ("pass", 1.0))
    ]
    # Many viewers list the attributes of spans, and hide events.
    assert all(event.items() <= attributes(span).items() for span, (_, event) in zip(checks, results, strict=True))
    accepted = [attributes(seen.span(f"attempt {number}"))["mellea.attempt.accepted"] for number in (1, 2)]
    assert accepted == [False, True]


async def test_ready_made_checks_are_called_by_what_made_them(enabled: Enable) -> None:
    def is_calm(text: str) -> bool:
        return "!" not in text

    seen = enabled()
    made = [length(max=9), excludes("z"), contains("a"), check("y", validation_fn=simple_validate(is_calm))]
    await session("a bcd").ainstruct("x", requirements=made)
    checks = [attributes(span) for span in seen.spans if span.name == "check"]
    names = [found["gen_ai.evaluation.name"] for found in checks if "mellea.check.streaming" not in found]
    assert sorted(map(str, names)) == ["contains", "excludes", "is_calm", "length"]
    early = [found["gen_ai.evaluation.name"] for found in checks if found.get("mellea.check.streaming")]
    assert sorted(map(str, early)) == ["excludes", "length"]


async def test_tools_and_steps_are_spans_and_a_tools_own_calls_stand_in_it(enabled: Enable) -> None:
    seen, inner = enabled(), session("inside")

    async def look(place: str) -> str:
        """Look."""
        return str(await inner.ainstruct(place, name="deep"))

    m = session([ToolEnd(ToolCall("c1", "look", {"place": "Rome"}))], "A cat.")
    await m.ainstruct("x", name="search", tools=[look], tool_calls="run")
    assert seen.tree() == [
        "invoke_workflow search",
        "  step 1",
        "    chat script",
        "    execute_tool look",
        "      chat script",
        "  step 2",
        "    chat script",
    ]
    tool = seen.span("execute_tool look")
    assert tool.kind is SpanKind.INTERNAL
    found = attributes(tool)
    assert found["gen_ai.operation.name"] == "execute_tool" and found["gen_ai.tool.name"] == "look"
    assert found["gen_ai.tool.type"] == "function" and found["gen_ai.tool.call.id"] == "c1"


def test_sync_verbs_threads_and_two_loops_each_give_whole_trees(enabled: Enable) -> None:
    seen, m = enabled(), session("x")

    @mellea.trace
    def work(name: str) -> None:
        m.instruct("x", name=name)

    work("sync")
    thread = threading.Thread(target=work, args=("thread",))
    thread.start()
    thread.join()

    async def both() -> None:
        with mellea.traces.start("loop"):
            await m.ainstruct("x")
            await anyio.to_thread.run_sync(work, "nested")

    asyncio.run(both())
    asyncio.run(both())
    loop = ["loop", "  chat script", "  work", "    chat script"]
    assert seen.tree() == ["work", "  chat script"] * 2 + loop * 2
    assert len({span.context.trace_id for span in seen.spans if span.context}) == 4


async def test_a_stream_lasts_as_long_as_it_is_read_and_has_no_span_for_a_delta(enabled: Enable) -> None:
    seen, m = enabled(), session([str(number) for number in range(500)])

    @mellea.trace
    async def numbers() -> AsyncIterator[str]:
        async for chunk in m.astream("x"):
            yield chunk

    async for _ in numbers():
        pass
    assert seen.tree() == ["numbers", "  chat script"]
    assert not any(span.events for span in seen.spans)
    outer, call = seen.spans
    assert outer.end_time and call.end_time and outer.end_time >= call.end_time
    assert attributes(call)["gen_ai.response.model"] == "script"


async def test_a_thunks_ingredients_are_links(enabled: Enable) -> None:
    seen, m = enabled(), session("x")
    first = await m.ainstruct("one", name="one", await_result=False)
    second = await m.ainstruct("two", name="two")
    await m.ainstruct("{{a}} {{b}}", name="three", user_variables={"a": first, "b": second})
    one, two, three = seen.spans
    assert {link.context.span_id for link in three.links} == {one.context.span_id, two.context.span_id}  # type: ignore[union-attr]


async def test_the_programs_own_spans_are_parents_and_children(enabled: Enable) -> None:
    seen = enabled()
    tracer = seen.tracers.get_tracer("mine")

    def is_fine(text: str) -> bool:
        with tracer.start_as_current_span("my check"):
            return True

    @mellea.trace
    def stream() -> Iterator[str]:
        with tracer.start_as_current_span("my part"):
            pass
        yield "x"

    m = session("x")
    with tracer.start_as_current_span("web request"):
        await m.ainstruct("x", name="a", requirements=[check("ok", validation_fn=simple_validate(is_fine))])
        for _ in stream():
            with tracer.start_as_current_span("between"):
                pass
    assert seen.tree() == [
        "web request",
        "  invoke_workflow a",
        "    attempt 1",
        "      chat script",
        "      check",
        "        my check",
        "  stream",
        "    my part",
        "  between",
    ]
    assert not otel.get_current_span().get_span_context().is_valid


async def test_a_failure_is_an_error_of_its_type_without_its_words(enabled: Enable) -> None:
    seen, m = enabled(), session([RateLimitError(f"{PASSWORD} is too much")])
    with pytest.raises(RateLimitError):
        await m.ainstruct("x")
    (span,) = seen.spans
    assert span.status.status_code is StatusCode.ERROR and span.status.description == "RateLimitError"
    assert attributes(span)["error.type"] == "RateLimitError" and not span.events and PASSWORD not in seen.text()


async def test_a_retry_is_an_event(enabled: Enable) -> None:
    seen, m = enabled(), session([KeepAlive(is_restart=True), TextDelta("x")])
    await m.ainstruct("x")
    assert [event.name for event in seen.spans[0].events] == ["retry"]


async def test_a_key_that_somebody_says_is_hidden(enabled: Enable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_TOKEN", "opaque-token-012345")
    backend = OpenAIBackend("gpt-x", api_key="opaque-key-012345", base_url="http://127.0.0.1:9")
    seen = enabled(content=True)
    await session("opaque-key-012345").ainstruct(f"opaque-token-012345\n{KEY}")
    assert not [key for key in (backend.api_key, "opaque-token-012345", KEY) if str(key) in seen.text()]
    assert seen.text().count("***") >= 3


async def test_host_and_port_are_told_and_no_key(enabled: Enable) -> None:
    seen = enabled(content=True)
    backend = OpenAIBackend("gpt-x", api_key=KEY, base_url=f"http://user:{KEY}@127.0.0.1:9/v1?key={KEY}", retries=0)
    options = {"extra_headers": {"Authorization": f"Bearer {KEY}"}, "extra_body": {"api_key": KEY}}
    with pytest.raises(mellea.MelleaError):
        await mellea.start_session(backend).ainstruct("x", model_options=options)
    (span,) = seen.spans
    found = attributes(span)
    assert (found["server.address"], found["server.port"]) == ("127.0.0.1", 9)
    assert found["gen_ai.provider.name"] == "openai" and found["error.type"] == "ConnectError"
    assert "gen_ai.usage.input_tokens" not in found and KEY not in seen.text()


async def secretive(m: mellea.MelleaSession) -> None:
    def look(place: str) -> str:
        """Look."""
        return f"{place} and {PASSWORD}"

    @mellea.trace
    def inside(password: str) -> str:
        return password

    no = simple_validate(lambda text: (False, f"{text} has {PASSWORD}"))
    with mellea.traces.start("secretive"):
        inside(PASSWORD)
        await m.ainstruct(f"the password is {PASSWORD}", requirements=[req(f"isn't {PASSWORD}", validation_fn=no)])
        await m.ainstruct("{{it}}", user_variables={"it": PASSWORD}, tools=[look], tool_calls="run")


def _script(text: str) -> list[Any]:
    return [text, text, [ToolEnd(ToolCall("1", "look", {"place": PASSWORD}))], text]


async def test_without_content_nothing_that_was_said_is_told(enabled: Enable) -> None:
    seen = enabled()
    await secretive(session(*_script(f"it is {PASSWORD}")))
    assert len(seen.spans) >= 12 and PASSWORD not in seen.text()
    assert not [name for span in seen.spans for name in attributes(span) if "messages" in name or "arguments" in name]


async def test_with_content_prompts_answers_tools_and_reasons_are_told(enabled: Enable) -> None:
    seen = enabled(content=True)
    m = session(*_script(f"it is {PASSWORD}"), model_options={"system_prompt": "Be brief."})
    await secretive(m)
    call = next(span for span in seen.spans if span.name == "chat script")
    found = attributes(call)
    (asked,) = json.loads(found["gen_ai.input.messages"])
    assert asked["role"] == "user" and PASSWORD in asked["parts"][0]["content"]
    assert json.loads(found["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": f"it is {PASSWORD}"}],
            "finish_reason": "stop",
        }
    ]
    assert json.loads(found["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be brief."}]
    tool = attributes(seen.span("execute_tool look"))
    assert json.loads(tool["gen_ai.tool.call.arguments"]) == {"place": PASSWORD}
    assert json.loads(tool["gen_ai.tool.call.result"]) == f"{PASSWORD} and {PASSWORD}"
    (event,) = next(span for span in seen.spans if span.name == "check").events
    assert event.attributes is not None
    assert event.attributes["gen_ai.evaluation.name"] == f"isn't {PASSWORD}"
    assert PASSWORD in str(event.attributes["gen_ai.evaluation.explanation"])


async def test_content_in_events_alone_isnt_in_the_attributes_of_a_check(
    enabled: Enable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "EVENT_ONLY")
    seen = enabled()

    def is_fine(text: str) -> tuple[bool, str]:
        return True, PASSWORD

    await session("a").ainstruct("x", requirements=[check(PASSWORD, validation_fn=simple_validate(is_fine))])
    span = seen.span("check")
    assert PASSWORD not in str(attributes(span)) and attributes(span)["gen_ai.evaluation.name"] == "is_fine"
    assert PASSWORD in str([event.attributes for event in span.events])


@pytest.mark.parametrize(("value", "places"), [("EVENT_ONLY", "event"), ("SPAN_AND_EVENT", "span event"), ("x", "")])
async def test_the_standard_switch_says_where_content_goes(
    enabled: Enable, monkeypatch: pytest.MonkeyPatch, value: str, places: str
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", value)
    seen = enabled()
    await session("hello").ainstruct(PASSWORD)
    (span,) = seen.spans
    assert ("gen_ai.input.messages" in attributes(span)) == ("span" in places)
    assert [event.name for event in span.events] == (
        ["gen_ai.client.inference.operation.details"] if "event" in places else []
    )
    assert (PASSWORD in seen.text()) == bool(places)


async def test_draws_that_run_at_once_stand_side_by_side(enabled: Enable) -> None:
    from mellea.stdlib.sampling import BestOfNStrategy

    seen, m = enabled(), session("a", "bb", "ccc")
    scored = check(
        "long", validation_fn=lambda context: mellea.core.ValidationResult(True, None, len(str(context)) / 3)
    )
    await m.ainstruct("x", requirements=[scored], strategy=BestOfNStrategy(n=3))
    assert sorted(seen.tree()[1:]) == sorted(
        line for number in (1, 2, 3) for line in (f"  attempt {number}", "    chat script", "    check")
    )


async def test_a_rejected_attempt_is_stopped_and_marked(enabled: Enable) -> None:
    from mellea.core.requirement import Requirement

    seen = enabled()
    calm = Requirement("calm", stream_validation_fn=lambda chunk: "!" not in chunk, scope="sentence")
    m = session(["Help! ", "Now. ", Pause(float("inf"))], "All is well.")
    await m.ainstruct("x", requirements=[calm], strategy=RejectionSamplingStrategy(loop_budget=2))
    first = next(span for span in seen.spans if span.name == "chat script")
    assert attributes(first)["error.type"] == "cancelled" and "gen_ai.usage.output_tokens" not in attributes(first)


async def test_of_several_models_the_one_that_answered_is_told(enabled: Enable) -> None:
    from mellea.backends import FallbackBackend

    class Second(ScriptedBackend):
        name, model_id = "gemini", "gemini-2.5-pro"

    seen = enabled()
    chain = FallbackBackend([ScriptedBackend(RateLimitError("busy")), Second("hello")])
    await mellea.start_session(chain).ainstruct("x")
    found = attributes(seen.spans[0])
    assert found["gen_ai.provider.name"] == "gcp.gemini" and found["gen_ai.request.model"] == "gemini-2.5-pro"


async def test_a_model_in_this_process_is_internal_and_has_no_server(enabled: Enable) -> None:
    class Embedded(ScriptedBackend):
        name = "llama_cpp"

    seen = enabled()
    await mellea.start_session(Embedded("x", usage=Usage(1, 1))).ainstruct("x")
    (span,) = seen.spans
    assert span.kind is SpanKind.INTERNAL and "server.address" not in attributes(span)
    assert attributes(span)["gen_ai.usage.cost"] == 0.0


async def test_typed_answers_images_and_embeddings_say_what_they_are(enabled: Enable) -> None:
    from mellea.core import ImageBlock
    from mellea.core.results import EmbeddingResult, ImageResult
    from mellea.core.videos import Video, VideoResult

    class Artist(ScriptedBackend):
        async def embed(self, texts: Any) -> EmbeddingResult:
            return EmbeddingResult(((0.0,),), Usage(5))

        async def generate_image(self, messages: Any, **options: Any) -> ImageResult:
            return ImageResult((ImageBlock(data=b"x"),))

        async def generate_video(self, request: Any) -> VideoResult:
            return VideoResult((Video(data=b"x"),), Usage(video_seconds=8))

    seen, m = enabled(), mellea.start_session(Artist("7"))
    await m.ainstruct("x", format=int)
    await m.aembed("x")
    await m.agenerate_image("x")
    await m.agenerate_video("x")
    kinds = [(span.name, dict(span.attributes or {}).get("gen_ai.output.type")) for span in seen.spans]
    assert kinds == [
        ("invoke_workflow", None),
        ("attempt 1", None),
        ("chat script", "json"),
        ("embeddings script", None),
        ("generate_content script", "image"),
        ("generate_content script", "video"),
    ]
    assert attributes(seen.spans[-1])["mellea.usage.video_seconds"] == 8
    assert attributes(seen.span("embeddings script"))["gen_ai.usage.input_tokens"] == 5


async def test_an_agent_is_a_span_of_its_steps_and_a_sub_agent_stands_in_its_tool(enabled: Enable) -> None:
    seen = enabled()
    helper = mellea.Agent(session("rain", usage=Usage(1, 1)), [], name="forecaster")

    def look(place: str) -> str:
        """Look."""
        return "a cat"

    ask = ToolEnd(ToolCall("c1", "look", {"place": "Rome"}))
    delegate = ToolEnd(ToolCall("c2", "forecaster", {"task": "Oslo"}))
    m = session([ask], [delegate], "Take an umbrella.", usage=Usage(1, 1))
    with mellea.traces.start("day") as t:
        run = await mellea.Agent(m, [look, helper.as_tool()], name="planner").arun("What should I wear?")
    assert run.value == "Take an umbrella."
    assert seen.tree() == [
        "day",
        "  invoke_agent planner",
        "    step 1",
        "      chat script",
        "      execute_tool look",
        "    step 2",
        "      chat script",
        "      execute_tool forecaster",
        "        invoke_agent forecaster",
        "          step 1",
        "            chat script",
        "    step 3",
        "      chat script",
    ]
    agent = attributes(seen.span("invoke_agent planner"))
    assert agent["gen_ai.operation.name"] == "invoke_agent" and agent["gen_ai.agent.name"] == "planner"
    assert [line.split(" (")[0].strip() for line in str(t.tree()).splitlines()][1] == "planner"
    points = seen.points("gen_ai.invoke_agent.duration")
    assert sorted(point.attributes["gen_ai.agent.name"] for point in points) == ["forecaster", "planner"]


def test_what_has_no_text_or_cant_be_encoded_ends_its_span_and_reaches_a_collector(enabled: Enable) -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def fail(place: str) -> None:
        """Fail."""
        raise SilentError

    deep: Any = {}
    for _ in range(5000):
        deep = {"x": deep}
    seen = enabled(content=True)
    calls = [ToolEnd(ToolCall("1", "fail", {"place": "\ud83d"})), ToolEnd(ToolCall("2", "fail", {"x": deep}))]
    m = session(calls, "a \ud83d b")
    m.instruct("x \ud83d y", name="n \ud800", tools=[fail], tool_calls="run")

    @mellea.trace(name="f \udc00")
    def broken() -> None:
        raise SilentError

    with pytest.raises(SilentError):
        broken()
    tools = ["execute_tool fail"] * 2
    names = ["invoke_workflow n \ufffd", "step 1", "chat script", *tools, "step 2", "chat script"]
    assert [span.name for span in seen.spans] == [*names, "f \ufffd"]
    (message,) = encode_spans(seen.spans).resource_spans
    sent = message.scope_spans[0].spans
    keys = [{each.key for each in span.attributes} for span in sent]
    assert len(sent) == 8 and sum("gen_ai.input.messages" in each for each in keys) == 2
    assert "gen_ai.tool.call.arguments" in keys[3] & keys[4]


def test_a_tool_that_only_the_model_knows_is_called_unknown(enabled: Enable) -> None:
    seen, m = enabled(), session([ToolEnd(ToolCall("1", PASSWORD, {}))], "b")
    m.instruct("x", tools=[len_of], tool_calls="run")
    assert attributes(seen.span("execute_tool unknown tool"))["gen_ai.tool.name"] == "unknown tool"
    assert PASSWORD not in seen.text()


def len_of(text: str) -> int:
    """Count."""
    return len(text)


def test_one_stop_sequence_is_a_list_as_well(enabled: Enable) -> None:
    seen, m = enabled(), session("a")
    m.instruct("x", model_options={"stop": "END"})
    assert attributes(seen.spans[0])["gen_ai.request.stop_sequences"] == ("END",)


def test_a_span_that_the_program_makes_inside_a_traced_function_is_the_parent_of_its_calls(enabled: Enable) -> None:
    seen, m = enabled(), session(*"abc")
    mine = seen.tracers.get_tracer("mine")

    @mellea.trace
    def stream() -> Iterator[str]:
        with mine.start_as_current_span("inner"):
            yield from m.stream("x")
            assert otel.get_current_span().get_span_context().is_valid
            m.instruct("y")

    with mellea.traces.start("t"), mine.start_as_current_span("outer"):
        m.instruct("x")
    before = otel.get_current_span()
    for _ in stream():
        assert otel.get_current_span() is before, "it is current only while the body runs"
    assert otel.get_current_span() is before
    tree = ["t", "  outer", "    chat script", "stream", "  inner", "    chat script", "    chat script"]
    assert seen.tree() == tree


async def test_async_generators_leave_nothing_current_between_their_steps(enabled: Enable) -> None:
    seen, m = enabled(), session(*"abc")
    mine = seen.tracers.get_tracer("mine")

    @mellea.trace
    async def stream() -> AsyncIterator[str]:
        with mine.start_as_current_span("inner"):
            async for chunk in m.astream("x"):
                yield chunk
            await m.ainstruct("y")

    before = otel.get_current_span()
    async for _ in stream():
        assert otel.get_current_span() is before
    assert otel.get_current_span() is before
    await m.ainstruct("z")
    assert seen.tree() == ["stream", "  inner", "    chat script", "    chat script", "chat script"]
