"""What other libraries call our arguments, and what to do about arguments that aren't ours under any name."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ELSEWHERE", "FOREIGN"]


def _by_name(table: Mapping[str, str]) -> dict[str, str]:
    return {name: what for what, names in table.items() for name in names.split()}


FOREIGN = _by_name(
    {
        "format": "output_type output_schema output_format output_model output_cls response_type response_model "
        "response_format response_schema result_type result_model return_type schema json_schema text_format "
        "pydantic_model output returns type model_class cls json guided_json response_class",
        "grounding_context": "documents docs context contexts grounding references sources",
        "icl_examples": "examples few_shot fewshot few_shot_examples demos demonstrations shots",
        "user_variables": "variables vars template_variables prompt_variables inputs values",
        "requirements": "constraints rules guardrails checks validators criteria conditions postconditions ensures",
        "preconditions": "pre_conditions requires",
        "strategy": "sampling_strategy sampler",
        "strict": "raise_on_failure",
        "tools": "tool functions toolset",
        "max_turns": "max_steps max_iterations max_tool_calls max_loops max_rounds recursion_limit",
        "images": "image image_url attachments files",
        "output_prefix": "prefill assistant_prefix response_prefix answer_prefix",
        "validation_fn": "validator validate validation function fn func check validation_function",
        "model_options": "options generation_config generation_kwargs config settings params model_settings "
        "model_kwargs llm_kwargs sampling_params",
        "ctx": "context_window_size history chat_history message_history memory conversation",
        "session": "m",
        "name": "label title",
        "release": "chunking",
        "concurrency": "workers max_workers num_workers n_workers threads num_threads max_concurrency n_jobs "
        "max_parallelism parallelism parallel",
        "rows": "data dataset items iterable",
    }
)
"""The names that other libraries have for our arguments."""

ELSEWHERE = _by_name(
    {
        "m.stream(…) and m.astream(…) stream": "stream streaming on_token on_chunk stream_handler",
        "mellea.observe(…) notifies an observer of what happens": "callback callbacks hooks",
        "to continue before the answer is complete: await m.ainstruct(…, "
        "await_result=False)": "async_ is_async run_async background asynchronous non_blocking",
        "it belongs to start_session(…)": "model model_id model_name llm client backend provider api_key base_url ctx",
        "the prompt is the first argument, without a name": "prompt content message text question query instruction "
        "task",
        "a list of messages is the first argument of m.chat and m.stream, without a name: m.chat([…])": "messages",
        "write strategy=RejectionSamplingStrategy(loop_budget=…) for answers that fail their requirements, or "
        "start_session(…, retries=…) for requests that fail": "retries max_retries num_retries n_retries "
        "max_attempts attempts loop_budget",
        "tools take what else they need from the program: as methods of an object, or functions inside a function": ""
        "deps deps_type dependencies run_context context_variables",
        "write strategy=BestOfNStrategy(…)": "n num_samples best_of num_generations",
        "write requirements=[req(…, validation_fn=…)]": "validation_fn",
        "it belongs to the a… verbs; a stream never waits": "await_result",
        "a stream has .attempts, a thunk .sampling": "return_sampling_results",
        "it belongs to instruct, act and the streams, which check them": "requirements",
        "it belongs to instruct, act and the streams, which check requirements": "strategy strict",
        "it belongs to the streams": "live release",
        "it belongs to instruct, chat and the streams, whose texts have {{placeholders}}": "user_variables",
        "it belongs to instruct and the streams": "grounding_context icl_examples output_prefix name",
        "it belongs to instruct, chat and the streams": "images",
        "it belongs to the verbs, as in m.instruct(…, format=…)": "format",
        "it belongs to the verbs that ask a model, such as m.chat(…)": "tools",
        "it belongs to the verbs that take tools": "max_turns tool_calls",
        "it belongs to @generative and @command": "preconditions",
        "it belongs to start_session(…) and the verbs that ask a model": "model_options",
        "the verbs of a session are its own: m.instruct(…)": "session",
    }
)
"""What to do about arguments that aren't taken here under any name."""
