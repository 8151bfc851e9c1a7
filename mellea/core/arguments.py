"""Arguments that aren't taken: what to write instead, with our name for what other libraries call something else."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mellea.core.options import find_nearest_option
from mellea.errors import UsageError

__all__ = ["find_advice", "make_argument_error"]


def _by_name(table: Mapping[str, str]) -> dict[str, str]:
    return {name: what for what, names in table.items() for name in names.split()}


_FOREIGN = _by_name(
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
        "model_options": "options generation_config generation_kwargs config settings params",
        "ctx": "context_window_size history chat_history memory conversation",
        "session": "m",
        "name": "label title",
        "release": "chunking",
        "concurrency": "workers max_workers num_workers n_workers threads num_threads max_concurrency n_jobs "
        "max_parallelism parallelism parallel",
        "rows": "data dataset items iterable",
    }
)
"""The names that other libraries have for our arguments."""

_ELSEWHERE = _by_name(
    {
        "m.stream(…) and m.astream(…) stream": "stream streaming on_token on_chunk stream_handler",
        "mellea.observe(…) notifies an observer of what happens": "callback callbacks hooks",
        "to continue before the answer is complete: await m.ainstruct(…, "
        "await_result=False)": "async_ is_async run_async background asynchronous non_blocking",
        "it belongs to start_session(…)": "model model_id model_name llm client backend provider api_key base_url ctx",
        "the prompt is the first argument, without a name": "messages prompt content message text "
        "question query instruction task",
        "write strategy=RejectionSamplingStrategy(loop_budget=…) for answers that fail their requirements, or "
        "start_session(…, retries=…) for requests that fail": "retries max_retries num_retries n_retries "
        "max_attempts attempts loop_budget",
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


def make_argument_error(
    what: str, name: str, taken: Collection[str], kind: str = "argument", ways: Mapping[str, str] | None = None
) -> UsageError:
    """Make the error for an argument that isn't taken.

    Args:
        what: the function that was called.
        name: the name of the argument.
        taken: the names that are taken.
        kind: the word for an argument: `"argument"` or `"option"`.
        ways: what to do instead about arguments that other functions take and this one doesn't.
    """
    return UsageError(f"{what} takes no {kind} {name!r}; {find_advice(name, taken, ways or {})}")


def find_advice(name: str, taken: Collection[str], ways: Mapping[str, str]) -> str:
    """Return what to write in place of an argument that isn't taken; see `make_argument_error`."""
    # From certain to likely: advice from the function itself, our own names, other libraries' names, then typos.
    ours = _FOREIGN.get(name, name)
    named = f"it is {ours!r} here: " if name in _FOREIGN else ""
    if ours in ways:
        return ways[ours]
    if ours in taken:
        return f"{named}{ours}=…"
    if ours in _ELSEWHERE:
        return f"{named}{_ELSEWHERE[ours]}"
    # An exact option takes precedence over a similar argument: `temperature` is never a typo for something else.
    if (option := find_nearest_option(name, 1)) is not None:
        return _as_option(option, taken)
    # Arguments before options that are merely similar: they are fewer, and closer at hand. What isn't taken has to be
    # as similar as an option, since its advice doesn't name it: `ticket` is no typo for `strict`.
    import difflib  # lazy: needed for typos only

    similar = [*difflib.get_close_matches(name, taken), *difflib.get_close_matches(name, ways, cutoff=0.8)]
    if near := difflib.get_close_matches(name, similar, n=1):
        return ways.get(near[0], f"did you mean {near[0]!r}?")
    if (option := find_nearest_option(name, 0.8)) is not None:
        return _as_option(option, taken)
    options = "; model options go into model_options={…}" if "model_options" in taken else ""
    variables = "; values for {{placeholders}} go into user_variables={…}" if "user_variables" in taken else ""
    return f"it takes {', '.join(taken) or 'no others'}{options}{variables}"


def _as_option(option: str, taken: Collection[str]) -> str:
    if "model_options" in taken:
        return f"it is a model option: model_options={{{option!r}: …}}"
    return f"{option!r} is a model option: with mellea.options({option}=…), or start_session(…, model_options=…)"
