"""The same bytes, decoded here and by OpenAI's own client, which a local server replays them to.

Where the two differ, the table says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mellea.backends.openai import chat, responses
from mellea.core.events import Usage
from tests.backends.openai import answers
from tests.backends.recorded import TALLY, Exchange, exchanges, outcome, own, replay_server
from tests.peers import Peer

openai = Peer("openai")
pytestmark = openai.needed
httpx = pytest.importorskip("httpx")

FINISH = {"stop": "stop", "length": "length", "tool_calls": "tool_call", "content_filter": "content_filter"}

OTHER_USAGE = {
    "openai-compatible-xai-tool-call": "xAI leaves reasoning out of completion_tokens; the total has it",
    "xai-xai-text": "the same",
    "xai-xai-tool-call": "the same",
}


@pytest.fixture
def client(exchange: Exchange) -> Iterator[Any]:
    with replay_server(exchange) as url, openai.OpenAI(api_key="none", base_url=url, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("exchange", [*exchanges("openai_chat"), *own(answers.CHAT)])
@pytest.mark.sample(15)
def test_chat(exchange: Exchange, client: Any) -> None:
    ours = outcome(chat.Decoder(), exchange.body)
    texts, calls, usage, finish, refusal = [], {}, None, None, ""
    error = None
    try:
        for chunk in client.chat.completions.create(model="m", messages=[], stream=True):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                if choice.index != 0:
                    continue
                texts.append(choice.delta.content or choice.delta.refusal or "")
                refusal += choice.delta.refusal or ""
                finish = choice.finish_reason or finish
                for place, call in enumerate(choice.delta.tool_calls or ()):
                    index = call.index if call.index is not None else place
                    known = calls.setdefault(index, {"id": call.id, "name": "", "arguments": ""})
                    known["name"] += call.function.name or ""
                    known["arguments"] += call.function.arguments or ""
    except openai.APIError as raised:
        error = raised
    TALLY[f"{exchange.dialect} compared with the provider's client"] += 1
    assert ours.text == "".join(texts)
    assert (ours.error is None) == (error is None)
    if ours.error is not None:
        assert error.message in str(ours.error)
        return
    generation = ours.generation
    assert [(call.tool_call_id, call.tool_name, call.raw_args) for call in generation.tool_calls] == [
        (call["id"], call["name"], call["arguments"]) for call in calls.values()
    ]
    # The client gives a refusal apart from the text, and its finish reason is "stop".
    assert generation.finish_reason == ("content_filter" if refusal else FINISH.get(finish, "other"))
    assert_same_usage(exchange, generation.usage, usage)


def assert_same_usage(exchange: Exchange, ours: Usage | None, theirs: Any) -> None:
    assert ours is not None and theirs is not None
    assert ours.input_tokens == theirs.prompt_tokens
    if exchange.name in OTHER_USAGE:
        assert ours.total_tokens == theirs.total_tokens != theirs.prompt_tokens + theirs.completion_tokens
    else:
        assert ours.output_tokens == theirs.completion_tokens
    details = theirs.prompt_tokens_details
    if details is not None and details.cached_tokens is not None:
        assert ours.cached_tokens == details.cached_tokens
    details = theirs.completion_tokens_details
    assert ours.reasoning_tokens == (details.reasoning_tokens if details is not None else None)


@pytest.mark.parametrize("exchange", [*exchanges("openai_responses"), *own(answers.RESPONSES)])
@pytest.mark.sample(12)
def test_responses(exchange: Exchange, client: Any) -> None:
    ours = outcome(responses.Decoder(), exchange.body)
    deltas, final, error = [], None, None
    try:
        for event in client.responses.create(model="m", input="", stream=True):
            if event.type == "response.output_text.delta":
                deltas.append(event.delta)
            elif event.type in ("response.completed", "response.incomplete"):
                final = event.response
                break  # one recording holds four responses in a row
            elif event.type == "error":
                error = event  # that client leaves it to its user
    except openai.APIError as raised:
        error = raised
    TALLY[f"{exchange.dialect} compared with the provider's client"] += 1
    assert ours.text == "".join(deltas)
    assert (ours.error is None) == (error is None)
    if ours.error is not None:
        assert error.message in str(ours.error)
        return
    generation = ours.generation
    assert final is not None and generation.text == final.output_text
    assert (generation.response_id, generation.model) == (final.id, final.model)
    calls = [item for item in final.output if item.type in ("function_call", "custom_tool_call")]
    assert [(call.tool_call_id, call.tool_name, call.raw_args) for call in generation.tool_calls] == [
        (call.call_id, call.name, call.arguments if call.type == "function_call" else call.input) for call in calls
    ]
    ended = "length" if final.status == "incomplete" else "stop"
    assert generation.finish_reason == ("tool_call" if calls else ended)
    assert generation.usage is not None
    assert generation.usage.input_tokens == final.usage.input_tokens
    assert generation.usage.output_tokens == final.usage.output_tokens
    assert generation.usage.cached_tokens == final.usage.input_tokens_details.cached_tokens
    assert generation.usage.reasoning_tokens == final.usage.output_tokens_details.reasoning_tokens
    urls = [
        note.url
        for item in final.output
        if item.type == "message"
        for part in item.content
        for note in part.annotations
        if note.type == "url_citation"
    ]
    assert [source.url for source in generation.sources if source.url] == urls
    thoughts = [part.text for item in final.output if item.type == "reasoning" for part in item.summary]
    thoughts = thoughts or [
        part.text for item in final.output if item.type == "reasoning" for part in item.content or ()
    ]
    assert generation.thinking == "\n\n".join(thoughts)


def test_tool_arguments_are_the_parsed_json() -> None:
    for parameter in exchanges("openai_chat"):
        exchange = parameter.values[0]
        if exchange is not None:
            for call in outcome(chat.Decoder(), exchange.body).generation.tool_calls:
                assert call.is_valid and call.tool_args == json.loads(call.raw_args or "{}")
