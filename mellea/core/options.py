"""Model options: provider-neutral names, checked once, merged by layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypedDict, Unpack

from mellea.core.numbers import is_number, is_whole, show_argument
from mellea.errors import UsageError

__all__ = [
    "MAY_HOLD_KEYS",
    "Deadlines",
    "ModelOption",
    "check_options",
    "find_nearest_option",
    "list_unshaped_options",
    "merge_options",
    "options",
    "scoped_options",
    "strip_shape",
    "unshaped_backend",
]


class ModelOption(StrEnum):
    """The names of all model options; plain strings work as well.

    `CONTEXT_WINDOW` is in tokens, `TIMEOUT` in seconds (in total; silence may last as long) or a `Deadlines`.
    `STREAM: False` asks the provider for one plain response; otherwise every response is streamed.
    """

    TEMPERATURE = "temperature"
    MAX_NEW_TOKENS = "max_tokens"
    TOP_P = "top_p"
    TOP_K = "top_k"
    MIN_P = "min_p"
    SEED = "seed"
    STOP_SEQUENCES = "stop"
    FREQUENCY_PENALTY = "frequency_penalty"
    PRESENCE_PENALTY = "presence_penalty"
    REPEAT_PENALTY = "repeat_penalty"
    SYSTEM_PROMPT = "system_prompt"
    THINKING = "thinking"
    TOOLS = "tools"
    TOOL_CHOICE = "tool_choice"
    CONTEXT_WINDOW = "context_window"
    STREAM = "stream"
    TIMEOUT = "timeout"
    EXTRA_BODY = "extra_body"
    EXTRA_HEADERS = "extra_headers"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long to wait for a provider, in seconds; `None` means forever.

    Args:
        connect: until the connection is open.
        first_byte: from the request to the first sign of life.
        between_bytes: from one sign of life to the next.
        total: for everything together.

    A call is abandoned about 0.01 s after a deadline, or up to 0.05 s after one that passed while the event loop was
    busy: what has arrived by then is read first.
    """

    connect: float | None = 10.0
    first_byte: float | None = 120.0
    between_bytes: float | None = 60.0
    total: float | None = None

    @classmethod
    def of(cls, timeout: float | Deadlines | None) -> Deadlines:
        """Return the deadlines for a value of the option `timeout`.

        A number of seconds is the total, and also the limit for the first byte and between bytes; the connection
        keeps its default. Without the option all defaults apply.
        """
        if timeout is None:
            return DEFAULT_DEADLINES
        if isinstance(timeout, Deadlines):
            return timeout
        seconds = float(timeout)
        return cls(first_byte=seconds, between_bytes=seconds, total=seconds)

    def __post_init__(self) -> None:
        for name in ("connect", "first_byte", "between_bytes", "total"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and value > 0):
                raise UsageError(f"Deadlines takes seconds above 0 as {name}, or None, not {show_argument(value)}")


def _is_number(low: float, high: float = float("inf")) -> Callable[[Any], bool]:
    return lambda value: is_number(value) and low <= value <= high


DEFAULT_DEADLINES = Deadlines()


def _is_whole(low: int) -> Callable[[Any], bool]:
    return lambda value: is_whole(value, low)


def _is_a(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


def _is_stop(value: Any) -> bool:
    texts = [value] if isinstance(value, str) else value
    return isinstance(texts, (list, tuple)) and all(isinstance(item, str) and item for item in texts)


def _is_timeout(value: Any) -> bool:
    return value is None or isinstance(value, Deadlines) or (is_number(value) and value > 0)


def _is_choice(value: Any) -> bool:
    names = value if isinstance(value, (list, tuple)) else [value]
    return bool(names) and all(isinstance(name, str) for name in names)


_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    ModelOption.TEMPERATURE: ("a number from 0", _is_number(0)),
    ModelOption.MAX_NEW_TOKENS: ("a whole number from 1", _is_whole(1)),
    ModelOption.TOP_P: ("a number from 0 to 1", _is_number(0, 1)),
    ModelOption.TOP_K: ("a whole number from 0", _is_whole(0)),
    ModelOption.MIN_P: ("a number from 0 to 1", _is_number(0, 1)),
    ModelOption.SEED: ("a whole number from 0", _is_whole(0)),
    ModelOption.STOP_SEQUENCES: ("a string or a list of strings", _is_stop),
    ModelOption.FREQUENCY_PENALTY: ("a number from -2 to 2", _is_number(-2, 2)),
    ModelOption.PRESENCE_PENALTY: ("a number from -2 to 2", _is_number(-2, 2)),
    ModelOption.REPEAT_PENALTY: ("a number from 0", _is_number(0)),
    ModelOption.SYSTEM_PROMPT: ("a string", _is_a(str)),
    ModelOption.THINKING: ("True, False, or an effort such as 'low'", _is_a(bool, str, int)),
    ModelOption.TOOLS: ("a list of tools", _is_a(list, tuple)),
    ModelOption.TOOL_CHOICE: ("'auto', 'required', 'none', the name of a tool, or a list of names", _is_choice),
    ModelOption.CONTEXT_WINDOW: ("a whole number from 1", _is_whole(1)),
    ModelOption.STREAM: ("True or False", _is_a(bool)),
    ModelOption.TIMEOUT: ("seconds above 0, Deadlines, or None", _is_timeout),
    ModelOption.EXTRA_BODY: ("a dict", _is_a(dict)),
    ModelOption.EXTRA_HEADERS: ("a dict", _is_a(dict)),
}

MAY_HOLD_KEYS = (ModelOption.EXTRA_BODY, ModelOption.EXTRA_HEADERS)
"""The options whose values are never shown."""


def check_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options as a new dict under their plain names.

    Raises:
        UsageError: an option is unknown (the message names the nearest known one) or has a bad value.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise UsageError(f"model_options takes a dict such as {{'temperature': 0}}, not {options!r}")
    checked = {}
    # Strict: an ignored option would change nothing without notice.
    for name, value in options.items():
        if name not in _CHECKS:
            raise UsageError(f"unknown model option {name!r} in model_options; {_advice(name)}")
        wanted, is_right = _CHECKS[name]
        if not is_right(value):
            # Error messages end up in logs.
            shown = type(value).__name__ if name in MAY_HOLD_KEYS else show_argument(value)
            raise UsageError(f"the model option {str(name)!r} takes {wanted}, not {shown}")
        checked[str(name)] = value
    return checked


class OptionValues(TypedDict, total=False):
    """The options of `ModelOption` as keyword arguments."""

    temperature: float
    max_tokens: int
    top_p: float
    top_k: int
    min_p: float
    seed: int
    stop: str | Sequence[str]
    frequency_penalty: float
    presence_penalty: float
    repeat_penalty: float
    system_prompt: str
    thinking: bool | str | int
    tools: Sequence[Any]
    tool_choice: str | Sequence[str]
    context_window: int
    stream: bool
    timeout: float | Deadlines | None
    extra_body: Mapping[str, Any]
    extra_headers: Mapping[str, str]


scoped_options: ContextVar[Mapping[str, Any]] = ContextVar("mellea_options", default={})  # noqa: B039 - never changed
"""The options of the enclosing `with options(…)` blocks."""


@contextmanager
def options(model_options: Mapping[str, Any] | None = None, /, **more: Unpack[OptionValues]) -> Iterator[None]:
    """Set model options for every call inside a `with` block.

    They take precedence over those of the session and the backend; those of a call take precedence over them. Blocks
    nest, and each task and thread has its own. Options are looked up when a verb is called.

    Args:
        model_options: options by name, for names that aren't Python identifiers.
        more: options by name, as in `ModelOption`.

    Raises:
        UsageError: an option is unknown or has a bad value.
    """
    if "model_options" in more:
        raise UsageError("options takes model options by name, as in options(temperature=0), or a single dict of them")
    # A new dict each time: tasks that were started before keep theirs.
    token = scoped_options.set({**scoped_options.get(), **check_options(model_options), **check_options(more)})
    try:
        yield
    finally:
        with suppress(ValueError):  # a generator may be closed in another context, where there is nothing to undo
            scoped_options.reset(token)


_SHAPING = frozenset(
    str(option)
    for option in (
        ModelOption.MAX_NEW_TOKENS,
        ModelOption.SEED,
        ModelOption.STOP_SEQUENCES,
        ModelOption.SYSTEM_PROMPT,
        ModelOption.TOOLS,
        ModelOption.TOOL_CHOICE,
    )
)

_SHAPING_BODY = frozenset(
    [
        "format",
        "functions",
        "function_call",
        "grammar",
        "instructions",
        "json_schema",
        "max_completion_tokens",
        "max_length",
        "max_new_tokens",
        "max_output_tokens",
        "max_tokens",
        "maxOutputTokens",
        "min_tokens",
        "n",
        "n_predict",
        "num_predict",
        "random_seed",
        "response_format",
        "responseMimeType",
        "responseJsonSchema",
        "responseSchema",
        "seed",
        "stop",
        "stop_sequences",
        "stopSequences",
        "stop_token_ids",
        "system",
        "systemInstruction",
        "system_instruction",
        "text",
        "tool_choice",
        "toolConfig",
        "tools",
    ]
)
"""The same options under the names of the providers' own requests."""


def strip_shape(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without those that shape an answer: length, stop, seed, tools, format and system prompt.

    Users set them for their answers. Calls that the library makes for itself, such as a judge's, have their own.
    """
    found = {name: value for name, value in options.items() if name not in _SHAPING}
    if body := found.get(ModelOption.EXTRA_BODY):
        found[ModelOption.EXTRA_BODY] = _body_without_shape(body)
    return found


def _body_without_shape(body: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in body.items() if name not in _SHAPING_BODY}
    for name in ("options", "generationConfig", "generation_config"):  # some wire formats have them there
        if isinstance(found.get(name), Mapping):
            found[name] = {key: value for key, value in found[name].items() if key not in _SHAPING_BODY}
    return found


unshaped_backend: ContextVar[Any] = ContextVar("mellea_unshaped", default=None)
"""The backend whose calls the library makes for itself: its options don't shape these answers either."""


@contextmanager
def list_unshaped_options(backend: Any) -> Iterator[None]:
    """Ignore options that shape an answer in calls inside the `with` block, unless a call sets them itself.

    Args:
        backend: the backend of the user's answer; its own options are ignored in the same way.
    """
    # Both levels: blocks around the call, and the backend's own options.
    scope, backends = scoped_options.set(strip_shape(scoped_options.get())), unshaped_backend.set(backend)
    try:
        yield
    finally:
        scoped_options.reset(scope)
        unshaped_backend.reset(backends)


def merge_options(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge checked options; a later layer overrides an earlier one."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer)
    return merged


_ELSEWHERE = {
    "num_predict": ModelOption.MAX_NEW_TOKENS,
    "n_predict": ModelOption.MAX_NEW_TOKENS,
    "max_length": ModelOption.MAX_NEW_TOKENS,
    "max_completion_tokens": ModelOption.MAX_NEW_TOKENS,
    "max_output_tokens": ModelOption.MAX_NEW_TOKENS,
    "temp": ModelOption.TEMPERATURE,
    "num_ctx": ModelOption.CONTEXT_WINDOW,
    "n_ctx": ModelOption.CONTEXT_WINDOW,
    "system": ModelOption.SYSTEM_PROMPT,
    "system_message": ModelOption.SYSTEM_PROMPT,
    "system_instruction": ModelOption.SYSTEM_PROMPT,
    "instructions": ModelOption.SYSTEM_PROMPT,
    "reasoning": ModelOption.THINKING,
    "reasoning_effort": ModelOption.THINKING,
    "random_seed": ModelOption.SEED,
    "functions": ModelOption.TOOLS,
    "deadline": ModelOption.TIMEOUT,
    "headers": ModelOption.EXTRA_HEADERS,
}
"""What other libraries call the same option, where the name isn't similar to ours."""


def find_nearest_option(name: Any, cutoff: float) -> str | None:
    """Return the option that a misspelt name, or another library's name, most likely means; `None` if there is none.

    Args:
        name: what was given.
        cutoff: how similar the names have to be, from 0 to 1 (equal).
    """
    import difflib  # lazy: only for typos

    # Each under its value and its member's name: people write `max_new_tokens` as well as `max_tokens`.
    known = dict(_ELSEWHERE) | {spelt: option for option in ModelOption for spelt in (option.name.lower(), str(option))}
    near = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=cutoff)
    return str(known[near[0]]) if near else None


def _advice(name: Any) -> str:
    from mellea.core.argument_names import ELSEWHERE, FOREIGN  # lazy: only for mistakes

    if (exact := find_nearest_option(name, 1)) is not None:
        return f"did you mean {exact!r}?"
    ours = FOREIGN.get(name, name)
    if ours in ELSEWHERE:
        return ELSEWHERE[ours] if ours == name else f"it is {ours!r} here: {ELSEWHERE[ours]}"
    if ours in FOREIGN.values():
        return f"it is an argument of a call, not an option of the model: {ours}=…"
    if (near := find_nearest_option(name, 0.75)) is not None:
        return f"did you mean {near!r}?"
    return f"known are {', '.join(map(str, ModelOption))}; what only one provider has goes into 'extra_body'"
