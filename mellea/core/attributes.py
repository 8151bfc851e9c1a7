"""Attributes that aren't there: the error, with our name for what other libraries call something else.

`find_attribute` is in the `__getattr__` of a class, which Python calls for names that it hasn't found: those that
are there cost nothing. The error is an `AttributeError`, so `hasattr` and `getattr` with a default work as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mellea.errors import UsageAttributeError

__all__ = [
    "AGENT_CONVERSATION_WAYS",
    "AGENT_RUN_WAYS",
    "AGENT_STREAM_WAYS",
    "AGENT_WAYS",
    "CONTEXT_WAYS",
    "MESSAGE_WAYS",
    "PENDING_WAYS",
    "ROW_WAYS",
    "SCRIPTED_WAYS",
    "SESSION_WAYS",
    "STREAM_WAYS",
    "THUNK_WAYS",
    "TOOL_CALL_WAYS",
    "USAGE_WAYS",
    "Elsewhere",
    "find_attribute",
]


def _by_name(table: Mapping[str, str]) -> dict[str, str]:
    """Return what to do for each name, of a table that has several names for each thing to do."""
    return {name: what for what, names in table.items() for name in names.split()}


THUNK_WAYS = _by_name(
    {
        ".value is the text": "text output_text completion completions response answer reply generated_text raw "
        "response_text content_text get",
        ".value is the text, and has all methods of one": "capitalize casefold count encode endswith find isdigit "
        "join lower lstrip partition replace rstrip split splitlines startswith strip title upper",
        ".value is the text, .message the whole answer": "choices candidates generations parts output_messages",
        ".parsed is the result of a call with format=…, .value the text": "data output result results parsed_output "
        "structured_response object json dict model_dump model_dump_json model_validate_json to_dict",
        ".finish_reason says why the model stopped": "stop_reason finish_reasons done_reason",
        ".usage has the tokens": "usage_metadata tokens token_count total_tokens token_usage input_tokens "
        "output_tokens",
        ".thinking is what the model thought": "reasoning reasoning_content thoughts thinking_blocks",
        ".response_id is the provider's id": "id request_id",
        ".model is the model that answered": "model_name model_id response_metadata",
        ".tool_calls are the tool calls": "function_call function_calls tools additional_kwargs",
        "earlier turns are in the context of the session: m.ctx.turns()": "messages all_messages new_messages history",
        ".is_computed() and .has_failed() say whether it has finished": "done is_done exception status completed",
        ".sampling has every attempt and what the checks said": "attempts validations requirements",
        "iterate over the thunk itself: async for piece in thunk": "text_stream stream stream_text iter_text chunks "
        "deltas",
    }
)
"""What to write in place of the attributes that results have elsewhere."""

STREAM_WAYS = _by_name(
    {
        "iterate over the stream; .text is the text so far, .output the result at its end": "value content output_text "
        "choices delta response completion answer reply data",
        ".result is the computed thunk, at the end": "thunk final get_final_message get_final_response "
        "get_final_completion final_result get_output final_output wait join",
        ".text is the text so far, .output the result at its end": "get_final_text get_text full_text partial",
        "iterate over the stream itself": "text_stream stream stream_text stream_output iter_text iter_lines chunks "
        "text_deltas deltas iter read",
        ".partials() gives the partial objects": "partial_stream partial_objects object_stream stream_structured",
        ".events() gives the typed events": "stream_events event_stream on fullStream full_stream",
        "closing it, or leaving its block, cancels it": "cancel stop abort",
        "it is there in .result, at the end": "finish_reason model response_id tool_calls thinking files request "
        "sampling success time_to_first_token",
    }
)
"""What to write in place of the attributes that streams have elsewhere."""

SESSION_WAYS = _by_name(
    {
        "m.instruct(…) or m.chat(…) asks the model": "run run_sync invoke generate complete completion predict call "
        "prompt generate_text respond text query_model",
        "await m.ainstruct(…) or m.achat(…) asks the model": "arun ainvoke agenerate acomplete apredict acall "
        "generate_async",
        "m.chat(…) sends a message, or a list of messages": "messages completions responses create add_message "
        "send_message send message",
        "m.stream(…) and m.astream(…) stream": "run_stream stream_text stream_async stream_events stream_chat iter "
        "generate_stream",
        "format=… gives a call a type: m.instruct(…, format=…)": "with_structured_output generate_object extract "
        "parse structured create_partial create_iterable json_mode",
        "a call takes tools: m.instruct(…, tools=[…], tool_calls='run')": "bind_tools bind_functions tools tool "
        "add_tool register_tool",
        "mellea.gather(…) waits for several calls: await gather(*[m.ainstruct(…) for …])": "batch abatch map amap",
        "earlier turns are in its context, m.ctx": "history memory context chat_history conversation all_messages",
        "mellea.core.serialise.to_json(m.ctx) saves the conversation of a ChatContext, and "
        "start_session(…, ctx=from_json(saved)) continues it": "save load to_json from_json dump restore export",
        "m.embed(texts) embeds texts": "embeddings embedding embed_query embed_documents encode get_embedding",
        "m.reset() starts a new conversation": "clear clear_history clear_context reset_history forget "
        "new_conversation new_session restart",
        "m.ctx is a value: keep it beforehand, and assign it to m.ctx to go back": "undo rewind rollback pop revert",
        "m.clone() is a session that continues from the same point": "fork branch copy",
        "start_session(…, model_options={'system_prompt': …}) sets it": "system system_prompt set_system_prompt",
        "mellea.ask(…) asks in one line": "ask aask",
        "m.backend.model_id is the model": "model model_id model_name",
        "each result has its own: m.instruct(…).usage": "usage token_usage total_tokens",
        "mellea.observe(…) notifies an observer of what happens": "on callbacks add_callback with_config hooks",
    }
)
"""What to write in place of the methods that clients, agents and models have elsewhere."""


CONTEXT_WAYS = _by_name(
    {
        ".turns() are the turns, each with its input and output": "messages history all_messages get_messages items "
        "get_turns load_memory_variables chat_history to_list",
        ".add(value) returns a context with one more value": "append extend insert push add_message add_messages "
        "add_user_message add_ai_message save_context",
        "str(context) is the text of the last answer, .last_output() the answer": "last last_message last_answer "
        "output value text content get_final_output",
        "mellea.core.serialise.to_json(context) saves a ChatContext, from_json(saved) loads it": "save load to_json "
        "dump from_json json to_dict",
        "a context never changes: keep an earlier one to go back, or make an empty one": "clear reset pop remove "
        "delete undo truncate reset_to_new",
    }
)
"""What to write in place of the attributes that histories have elsewhere."""

AGENT_WAYS = _by_name(
    {
        ".run(…), or await .arun(…), runs it on a prompt": "run_sync invoke ainvoke run_async execute kickoff call "
        "acall generate respond ask instruct query forward prompt",
        ".stream(…) and .astream(…) stream": "stream_async run_stream run_streamed run_stream_sync run_stream_events "
        "stream_events astream_events stream_text iter",
        ".conversation() starts a conversation, in which each turn sees the earlier ones": "chat send session thread "
        "start_chat new_thread history messages reset",
        ".resume(run.pending, answers) continues a run that waits for a person": "approve reject resolve "
        "continue_run resume_run",
        ".resume_stream(run.pending, answers) streams a run that is continued": "stream_resume resume_streamed "
        "stream_resumed resume_iter",
        "Agent(…, instructions=…) sets them": "system_prompt system set_instructions",
        "Agent(…, tools) has them from the beginning": "tool add_tool register_tool bind_tools tool_plain",
        "pass another agent as a tool: Agent(…, [other])": "handoff handoffs sub_agents add_agent to_tool",
        "Agent(…, memory=…) gives it one": "memory store_memory",
    }
)
"""What to write in place of the attributes that agents have elsewhere."""

AGENT_CONVERSATION_WAYS = _by_name(
    {
        ".send(…), or await .asend(…), sends a message": "run arun run_sync chat say ask invoke prompt message "
        "send_message",
        ".messages is the whole conversation": "history all_messages turns",
        ".to_json() saves it": "save dump dumps to_dict",
        "agent.conversation(…) starts another one": "reset clear new fork",
    }
)
"""What to write in place of the attributes that conversations with agents have elsewhere."""

AGENT_RUN_WAYS = _by_name(
    {
        ".value is the text of the answer, .output its value where the agent has an output type": "text content result "
        "data final_output final_result output_text response answer reply final_output_as get_output message",
        ".messages is the whole conversation": "all_messages new_messages history to_input_list message_history",
        ".pending.questions are what it waits for": "questions interruptions approvals deferred blocked",
        "agent.resume(run.pending, answers) continues it": "to_state approve reject resume",
        ".steps has every step, with its calls and their results": "tool_calls tool_results results intermediate_steps "
        "new_items trajectory logs",
        ".limit says which limit ended it, if one did": "finish_reason stop_reason is_complete",
        ".pending.to_json() is the state of a run that waits": "to_json to_dict",
    }
)
"""What to write in place of the attributes that the results of agents have elsewhere."""

AGENT_STREAM_WAYS = _by_name(
    {
        "iterate over the stream; .result is the run at its end": "value content output_text choices delta response "
        "answer reply data run final final_output final_result get_output get_final_message wait join",
        "iterate over the stream itself": "text_stream stream stream_text stream_output iter_text chunks read",
        ".events() gives the typed events": "stream_events event_stream on full_stream",
        ".partials() gives the partial objects": "partial_stream partial_objects object_stream",
        "closing it, or leaving its block, cancels it": "cancel stop abort",
        "it is there in .result, at the end": "steps messages pending limit cost parsed tool_calls",
    }
)
"""What to write in place of the attributes that the streams of agents have elsewhere."""


PENDING_WAYS = _by_name(
    {
        "agent.resume(pending, {question.id: True}) answers: True, False, Deny(reason) or Edited(args)": "approve "
        "reject deny answer answers resolve resume",
        ".questions are what it waits for, each with .id and .call": "calls tool_calls interruptions approvals "
        "requests",
        ".to_json() saves it": "save dump dumps to_dict",
    }
)
"""What to write in place of the attributes that states of waiting runs have elsewhere."""

ROW_WAYS = _by_name(
    {
        ".value is what the function returned": "result results output response answer data text content parsed",
        ".error says why it failed, and is None if it didn't": "exception failed success ok failure is_error status",
        ".id and .index tell which row it is": "key row input number row_id",
        ".usage has the tokens": "tokens total_tokens",
    }
)
"""What to write in place of the attributes that outcomes of many calls have elsewhere."""

SCRIPTED_WAYS = _by_name(
    {
        ".requests are all requests, .prompts their last texts": "calls call_args call_args_list mock_calls history "
        "messages received last_request",
        "len(backend.requests) counts the requests": "call_count called count",
        "the replies are given when it is made: ScriptedBackend('first', 'second')": "responses replies answers "
        "return_value side_effect add_response set_response",
    }
)
"""What to write in place of the attributes that stand-ins for a model have elsewhere."""


USAGE_WAYS = _by_name(
    {
        ".input_tokens are the tokens of the prompt": "prompt_tokens prompt_token_count prompt_eval_count "
        "request_tokens",
        ".output_tokens are those of the answer": "completion_tokens candidates_token_count eval_count response_tokens",
        ".total_tokens are both": "total tokens total_token_count",
        ".cached_tokens are those read from a cache": "cache_read_input_tokens cache_read_tokens "
        "prompt_tokens_details input_tokens_details cached_content_token_count",
        ".cache_write_tokens are those written to a cache": "cache_creation_input_tokens",
        ".reasoning_tokens are those of thinking": "completion_tokens_details output_tokens_details "
        "thoughts_token_count",
    }
)
"""What to write in place of the counts of tokens that others call something else."""

TOOL_CALL_WAYS = _by_name(
    {
        ".tool_args are the arguments": "arguments input parameters kwargs",
        ".tool_call_id is its id": "id call_id tool_use_id",
    }
)
"""What to write in place of the attributes that calls of tools have elsewhere."""

MESSAGE_WAYS = _by_name(
    {
        ".text is the text, .blocks everything in it": "value parts body output_text",
        "Message(role, content) makes one, and .role, .text and .blocks read it": "model_dump dict json to_dict",
    }
)
"""What to write in place of the attributes that messages have elsewhere."""


class Elsewhere:
    """Stands on a function where another library has an object, and says what to write as soon as that is used.

    Args:
        what: the object, for the error message.
        way: what to write.
    """

    def __init__(self, what: str, way: str) -> None:
        self._what, self._way = what, way

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what Python and debuggers look for on anything
            raise AttributeError(name)
        raise UsageAttributeError(f"{self._what!r} has no attribute {name!r}; {self._way}")


def find_attribute(value: Any, name: str, ways: Mapping[str, str]) -> Any:
    """Raise the error for an attribute that `value` hasn't.

    Args:
        value: what was asked for the attribute.
        name: the name of the attribute.
        ways: what to write instead, by the names that others use.

    Raises:
        UsageAttributeError: says what to write instead.
        AttributeError: nobody uses that name.
    """
    kind = type(value)
    # Python asks `__getattr__` also where a property itself raises AttributeError.
    if (found := getattr(kind, name, None)) is not None and hasattr(found, "__get__"):
        return found.__get__(value, kind)  # a property, whose own AttributeError made Python ask here: raise that
    if name in ways:
        raise UsageAttributeError(f"{_article(kind)} has no attribute {name!r}; {ways[name]}")
    raise AttributeError(f"{_article(kind)} has no attribute {name!r}", name=name, obj=value)


def _article(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'AEIO' else 'a'} {kind.__name__}"
