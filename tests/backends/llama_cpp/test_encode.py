import pytest

from mellea.backends.llama_cpp.encode import OPTIONS, encode, encode_messages
from mellea.core.blocks import ThinkingBlock, ToolCall, ToolOutput
from mellea.core.messages import Message, assistant_message, system_message, user_message
from mellea.errors import BadRequestError, UnsupportedError


def test_roles_and_text(request_for):
    request = request_for(system_message("Be brief."), user_message("a", "b"), assistant_message("c"), "d")
    assert encode_messages(request) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]


def test_every_option_reaches_the_payload(request_for):
    values = dict.fromkeys(OPTIONS, 1) | {"temperature": 0, "stop": "x"}
    payload = encode(request_for("hi", **{str(name): value for name, value in values.items()}))
    for option, name in OPTIONS.items():
        assert payload[name] == (["x"] if name == "stop" else values[option])


def test_nothing_is_sent_for_options_that_are_not_given(request_for):
    payload = encode(request_for("hi", stream=False))
    assert payload.keys() == {"stream", "stream_options", "return_progress", "echo", "max_tokens", "repeat_last_n"}
    assert payload["stream"] is True  # a call can only be stopped while it streams


def test_a_text_has_a_limit_of_its_own_unless_the_request_says_another(request_for):
    assert encode(request_for("hi"), 400)["max_tokens"] == 400
    assert encode(request_for("hi", max_tokens=9), 400)["max_tokens"] == 9
    assert encode(request_for("hi", schema={"type": "integer"}), 400)["max_tokens"] == 1024


def test_an_empty_stop_sequence_is_left_out(request_for):
    assert encode(request_for("hi", stop=["", "x"]))["stop"] == ["x"]
    assert encode(request_for("hi", stop=""))["stop"] == []


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**32, 2**70])
def test_a_seed_never_becomes_the_random_one(request_for, seed):
    assert 0 <= encode(request_for("hi", seed=seed))["seed"] < 2**32 - 1


def test_an_empty_assistant_message_at_the_end_is_left_out(request_for):
    assert len(encode_messages(request_for("hi", assistant_message("")))) == 1


def test_tool_calls_and_outputs_of_a_history_become_text(request_for):
    call = Message("assistant", [ThinkingBlock("hm"), ToolCall("1", "add", {"a": 1})])
    outputs = Message("tool", [ToolOutput("1", "add", {"sum": 2}), ToolOutput("2", "add", "no", is_error=True)])
    messages = encode_messages(request_for("hi", call, outputs))
    assert messages[1]["content"] == '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    assert messages[2] == {"role": "tool", "content": '{"sum": 2}Error: no'}


def test_a_schema_becomes_a_grammar(request_for):
    assert encode(request_for("hi", schema={"type": "integer"}))["grammar"].startswith("%llguidance")


def test_a_prefix_under_a_schema_is_refused(request_for):
    with pytest.raises(UnsupportedError, match="continue an assistant message"):
        encode(request_for("hi", assistant_message("{"), schema={"type": "integer"}))


def test_a_lone_surrogate_is_refused_with_a_way_out(request_for):
    with pytest.raises(BadRequestError, match=r"surrogate.*replace"):
        encode_messages(request_for("a\ud800b"))


def test_every_text_of_a_message_is_guarded_and_the_marks_of_a_call_are_not(request_for):
    def guard(text):
        return text.replace("<stop>", "STOP").replace("tool_call>", "TOOL")

    calls = Message("assistant", ["<st", "op>", ToolCall("1", "<stop>", {"</tool_call>": "<stop>"}), "<stop>"])
    outputs = Message("tool", [ToolOutput("1", "x", ["<stop>"]), ToolOutput("2", "x", "<stop>", is_error=True)])
    messages = encode_messages(request_for(system_message("<stop>"), "<sto", calls, outputs), guard)
    assert [message["content"] for message in messages] == [
        "STOP",
        "<sto",
        'STOP<tool_call>\n{"name": "STOP", "arguments": {"</TOOL": "STOP"}}\n</tool_call>STOP',
        '["STOP"]Error: STOP',
    ]
