"""What a backend is: it turns a `Request` into an async iterator of events, and does nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from mellea.core.blocks import Bound, CBlock, FileBlock, ImageBlock, ThinkingBlock, ToolOutput
from mellea.core.events import Event
from mellea.core.fingerprint import digest, find_message_form, find_options_form
from mellea.core.masking import hide_keys, scrub_label
from mellea.core.messages import Message
from mellea.core.options import MAY_HOLD_KEYS, Deadlines, ModelOption, check_options
from mellea.core.results import EmbeddingResult, ImageResult, Probe, RateLimitState
from mellea.errors import UnsupportedError

if TYPE_CHECKING:
    from mellea.core.videos import VideoRequest, VideoResult

__all__ = [
    "Backend",
    "Batches",
    "BuiltinTool",
    "Capabilities",
    "OutputSchema",
    "Request",
    "SentRequest",
    "ToolExample",
    "ToolSpec",
    "check_supported",
    "make_unsupported_error",
    "narrow_tools",
    "set_provider_finder",
]


C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class ToolExample:
    """A worked tool call, from which a small model learns when and how to call it.

    Args:
        prompt: what a user says.
        arguments: those of the call.
        result: what the tool gives back, as text.
        answer: what the model says then; by default the result.
    """

    prompt: str
    arguments: Mapping[str, Any]
    result: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class ToolSpec(Bound):
    """A tool as a model sees it.

    Args:
        name: what the model calls it.
        description: what it is for.
        parameters: a JSON Schema of its arguments.
        examples: worked calls, for models without native tools; those with native ones need none, and see none.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    examples: tuple[ToolExample, ...] = ()


@dataclass(frozen=True, slots=True)
class BuiltinTool:
    """A tool that the provider runs itself, as the functions in that provider's package make it.

    Args:
        provider: whose tool it is.
        name: what it is called in events.
        config: how the provider's own wire format declares it. It may hold a token, so it isn't shown.
    """

    provider: str
    name: str
    config: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """The JSON Schema that the answer has to match, and a name for it."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a model, in no provider's wire format.

    Args:
        messages: the conversation, oldest first. Its content is plain blocks: no thunks, no components.
        tools: tools that the model may ask for.
        output_schema: what the answer has to match, if anything.
        options: checked model options; `system_prompt`, `tools` and `timeout` have been taken out of
            them and are in `messages`, `tools` and `deadlines`. A `tool_choice` is `"auto"`, `"required"`, `"none"`
            or one name: for several names see `narrow_tools`.
        deadlines: how long to wait.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec | BuiltinTool, ...] = ()
    output_schema: OutputSchema | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    deadlines: Deadlines = field(default_factory=Deadlines)

    def change_texts(self, change: Callable[[str], str]) -> Request:
        """Return a copy with each text in the messages changed, as a hook does that removes personal data.

        Texts are those of all messages, the system prompt included, arguments and results of tools (in them every text,
        however deep, but not the names of fields), names of files, and reasoning, unless the provider signed it.

        Args:
            change: given a text, returns what is in its place.

        Raises:
            UsageError: it isn't a function, or returned something other than a string.
        """
        return replace(self, messages=tuple([message.change_texts(change) for message in self.messages]))

    def fingerprint(self, provider: str = "", model: str = "") -> str:
        """Return a digest of what decides the answer, for caches and journals: 64 hexadecimal digits.

        In it are the messages with the bytes of their files, tools, schema, and the options that shape the answer; not
        in it are keys, headers, deadlines, whether the answer is streamed, and marks for a provider's cache. The order
        of keys in schemas and arguments doesn't count. It is the same in every process and Python version.

        Args:
            provider: who is asked, such as the backend's `name`.
            model: which model, such as its `model_id`.

        Raises:
            UsageError: an option, a schema or a tool holds something that JSON can't represent.
        """
        schema = self.output_schema
        return digest(
            {
                "provider": provider,
                "model": model,
                "messages": [find_message_form(message) for message in self.messages],
                "tools": [_tool_form(tool) for tool in self.tools],
                "schema": None if schema is None else {"name": schema.name, "schema": schema.schema},
                "options": find_options_form(self.options),
            }
        )

    def __repr__(self) -> str:
        options = {name: "…" if name in MAY_HOLD_KEYS else value for name, value in self.options.items()}
        return (
            f"Request(messages={self.messages!r}, tools={self.tools!r}, output_schema={self.output_schema!r}, "
            f"options={options!r}, deadlines={self.deadlines!r})"
        )


def _tool_form(tool: ToolSpec | BuiltinTool) -> dict[str, Any]:
    if isinstance(tool, BuiltinTool):
        return {"provider": tool.provider, "name": tool.name, "config": hide_keys(tool.config)}
    form: dict[str, Any] = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    if tool.examples:
        form["examples"] = [
            [example.prompt, example.arguments, example.result, example.answer] for example in tool.examples
        ]
    return form


_SAMPLING = frozenset(
    str(option)
    for option in (
        ModelOption.TEMPERATURE,
        ModelOption.MAX_NEW_TOKENS,
        ModelOption.TOP_P,
        ModelOption.SEED,
        ModelOption.STOP_SEQUENCES,
        ModelOption.STREAM,
    )
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do; what it can't is refused before anything is sent.

    Args:
        options: names of the model options that reach the model.
        tools: whether the model can call tools.
        builtin_tools: the providers whose own tools can be asked for.
        structured_output: how a schema is enforced: by the provider's own means, by a tool call, by asking
            for it in the prompt, or not at all. The backend itself does so; for the third way there is
            `mellea.core.structured.prompting`.
        images: whether messages may hold images.
        files: whether messages may hold other files.
        prefill: whether a trailing assistant message is continued, as for `output_prefix=`; after a rejected attempt,
            `release=` needs it, too.
        prompt_caching: whether `CBlock(cache=True)` has an effect.
        image_generation: whether `generate_image` works.
        video_generation: whether `generate_video` works.
        embeddings: whether `embed` works.
    """

    options: frozenset[str] = _SAMPLING
    tools: bool = False
    builtin_tools: frozenset[str] = frozenset()
    structured_output: Literal["native", "tool", "prompt"] | None = None
    images: bool = False
    files: bool = False
    prefill: bool = False
    prompt_caching: bool = False
    image_generation: bool = False
    video_generation: bool = False
    embeddings: bool = False


class Backend(ABC):
    """Sends requests to one model, and yields its answers as events.

    Attributes:
        name: the provider, as in `"provider/model"`.
        model_id: the model, as the provider calls it.
        capabilities: what it supports; the class declares what its provider can do, an instance what its model can do.
        model_options: defaults for every request.
        aliases: other names of the provider, for "did you mean" in errors; case and punctuation don't matter.
        model_patterns: patterns of its models' names, such as `"gpt*"`, for the same purpose; the longest match counts.
            A pattern with a slash, such as `"*/*"`, is compared with the whole name.
        default_model: the model to use if none is named; `None` if one has to be named.
        services: other services that the class supports, by name; each has its own `aliases` and `model_patterns`. The
            class takes the name as its argument `service`.

    One backend object serves any number of event loops and threads at once. Creating one does no I/O.
    """

    aliases: ClassVar[tuple[str, ...]] = ()
    model_patterns: ClassVar[tuple[str, ...]] = ()
    default_model: ClassVar[str | None] = None
    services: ClassVar[Mapping[str, Any]] = {}

    name: str
    model_id: str
    capabilities: Capabilities = Capabilities()
    model_options: Mapping[str, Any]

    def __init__(self, *, model_options: Mapping[str, Any] | None = None) -> None:
        self.model_options = check_options(model_options)

    async def generate_from_context(
        self,
        action: Any,
        ctx: C,
        *,
        format: Any = None,
        model_options: Mapping[str, Any] | None = None,
        tool_calls: bool = False,
    ) -> tuple[Any, C]:
        """Launch a generation and return its thunk, and the context with it; Mellea 0.8's name for `mfuncs.aact`."""
        # By name, since verbs are in a layer above backends.
        said: tuple[Any, C] = await import_module("mellea._shapes_08").generate_from_context(
            self, action, ctx, format=format, model_options=model_options, tool_calls=tool_calls
        )
        return said

    @property
    def server(self) -> tuple[str, int | None] | None:
        """Host and port of the server that requests go to, for traces; `None` if there is none, or several."""
        return None

    @property
    def rate_limits(self) -> RateLimitState | None:
        """The limits that the provider's last response reported; `None` if it hasn't reported any."""
        return None

    @abstractmethod
    def run(self, request: Request) -> AsyncIterator[Event]:
        """Send the request and yield the events of the answer, ending with a `StreamEnd`.

        Usually an async generator. It raises a `BackendError` when it fails. It may be closed or cancelled at any time,
        and then stops the model's work. While a silent provider is alive, it yields a `KeepAlive` now and then, because
        without any event the request's deadlines would pass. If many events arrive at once, a backend may collect them
        in lists and return `Batches`, which a run reads list by list.
        """

    async def generate_image(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        aspect_ratio: str | None = None,
        options: Mapping[str, Any] = {},
    ) -> ImageResult:
        """Generate images from a prompt.

        Args:
            messages: the prompt.
            n: how many images.
            aspect_ratio: the ratio of width to height, such as `"16:9"`.
            options: further options, by the provider's own names.

        Raises:
            UnsupportedError: the backend makes no images.
            BackendError: the provider failed.
        """
        raise make_unsupported_error(self, "image generation")

    async def generate_video(self, request: VideoRequest) -> VideoResult:
        """Start a video job, wait for it, and download the result.

        The job is cancelled at the provider if the wait for it is, or if it times out.

        Raises:
            UnsupportedError: the backend makes no videos.
            BackendError: the provider failed, or rejected the request.
        """
        raise make_unsupported_error(self, "video generation")

    async def embed(self, texts: Sequence[str]) -> EmbeddingResult:
        """Embed each text.

        Raises:
            UnsupportedError: the backend makes no embeddings.
            BackendError: the provider failed.
        """
        raise make_unsupported_error(self, "embeddings")

    async def list_models(self) -> list[str]:
        """Return the names of the models that the provider offers.

        Raises:
            BackendError: the provider failed.
        """
        return [self.model_id]

    async def probe(self) -> Probe:
        """Return whether the model can be reached, and if not, why. Never raises."""
        return Probe(True, f"the backend {self.name!r} has no way to tell")

    def check_access(self) -> None:  # noqa: B027 - most backends need nothing
        """Check whether requests can be sent at all, without any I/O; a session does so when it starts.

        Raises:
            AuthError: a key is missing.
            ConfigurationError: something else that every request needs is missing.
        """

    def wire_payload(self, request: Request) -> Mapping[str, Any] | None:
        """Return the JSON body of a request in the provider's own format; `None` if nothing is sent."""
        return None

    async def aclose(self) -> None:  # noqa: B027 - most backends hold nothing
        """Release the backend's resources on the running loop; it can be used again afterwards."""

    def __repr__(self) -> str:
        # After a constructor that failed, tracebacks and debuggers still show the object.
        return f"{type(self).__name__}(model_id={getattr(self, 'model_id', None)!r})"


FEATURES: Mapping[str, str] = {
    "tools": "tools",
    "structured output": "structured_output",
    "images": "images",
    "files": "files",
    "image generation": "image_generation",
    "video generation": "video_generation",
    "embeddings": "embeddings",
}
"""What errors call a feature, and the field of `Capabilities` that says whether a backend has it."""


def _find_none(capability: str) -> Sequence[str]:
    return ()


_find_providers: Callable[[str], Sequence[str]] = _find_none


def set_provider_finder(find: Callable[[str], Sequence[str]]) -> None:
    """Set the function that returns the names of the providers with a capability, for errors.

    The core knows no provider; the registry above it does.
    """
    global _find_providers
    _find_providers = find


_TEXTS = frozenset({CBlock, ThinkingBlock})


def check_supported(backend: Backend, request: Request) -> None:
    """Reject what the backend can't do, before anything is sent.

    Raises:
        UnsupportedError: names the feature or the option.
    """
    can = backend.capabilities
    # Two set comparisons settle nearly every request, without a list of features.
    if request.options.keys() <= can.options and not request.tools and request.output_schema is None:
        for message in request.messages:
            if not _TEXTS.issuperset(map(type, message.blocks)):
                break
        else:
            return  # only text
    missing = next((name for name in request.options if name not in can.options), None)
    own = [tool for tool in request.tools if isinstance(tool, ToolSpec)]
    builtin = [tool for tool in request.tools if isinstance(tool, BuiltinTool)]
    foreign = next((tool for tool in builtin if tool.provider not in can.builtin_tools), None)
    # A long conversation isn't searched at each request if nothing in it can be rejected.
    files = [] if can.images and can.files else list(_files_in(request.messages))
    if missing is not None:
        feature, advice = f"the model option {missing!r}", f"it knows {', '.join(sorted(can.options))}"
    elif own and not can.tools:
        feature, advice = "tools", "leave out tools="
    elif foreign is not None:
        feature, advice = f"the tool {foreign.name!r}", f"the provider {foreign.provider!r} runs it"
    elif request.output_schema is not None and can.structured_output is None:
        feature, advice = "structured output", "leave out format="
    elif not can.images and any(isinstance(file, ImageBlock) for file in files):
        feature, advice = "images", "leave them out"
    elif not can.files and not all(isinstance(file, ImageBlock) for file in files):
        feature, advice = "files", "leave them out"
    else:
        return
    # Only the first missing feature: nobody reads a list.
    raise make_unsupported_error(backend, feature, advice)


def _files_in(messages: Iterable[Message]) -> Iterator[FileBlock]:
    for message in messages:
        for block in message.blocks:
            if isinstance(block, FileBlock):
                yield block
            # A tool may return an image, which is as much part of the request as the user's.
            elif isinstance(block, ToolOutput):
                yield from block.files


def narrow_tools(request: Request) -> Request:
    """Return the request with only the tools that its `tool_choice` names, one of which has to be called.

    Providers write such a choice differently, and most have none; offering only those tools has the same effect.
    """
    choice = request.options.get(ModelOption.TOOL_CHOICE)
    if not isinstance(choice, (list, tuple)):
        return request
    tools = tuple(tool for tool in request.tools if tool.name in choice)
    return replace(request, tools=tools, options={**request.options, ModelOption.TOOL_CHOICE: "required"})


def make_unsupported_error(backend: Backend, feature: str, advice: str = "") -> UnsupportedError:
    """Make the error for a feature that a backend doesn't have; it names the providers that have it."""
    capability = FEATURES.get(feature)
    able = [] if capability is None else [name for name in _find_providers(capability) if name != backend.name]
    ways = [*([advice] if advice else []), *([f"use a model of {', '.join(able)}"] if able else [])]
    return UnsupportedError(
        f"the backend {backend.name!r} with model {backend.model_id!r} doesn't support {feature}"
        + (f"; {', or '.join(ways)}" if ways else ""),
        backend=backend.name,
        model=backend.model_id,
    )


class Batches:
    """Reads events one by one from a generator of lists: an async iterator of events.

    It has no base class, since a run checks the type of each iterator, which is slow with abstract classes.

    Args:
        batches: the lists; a reader may take these instead of the events, but not alternate.
    """

    __slots__ = ("_rest", "batches")

    def __init__(self, batches: AsyncGenerator[list[Event], None]) -> None:
        self.batches = batches
        self._rest: list[Event] = []  # taken and not yet returned, the next one last

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._rest:
            # Reversed, because popping from the end of a list is cheap.
            self._rest = (await anext(self.batches))[::-1]
        return self._rest.pop()

    async def aclose(self) -> None:
        """Close the generator and yield nothing more."""
        self._rest = []
        await self.batches.aclose()


class SentRequest:
    """The request that was sent for an answer, without keys. Its attributes are computed when they are read.

    Args:
        backend: the backend that it was sent to.
        request: the request, before it was encoded for a provider.

    Attributes:
        model: the requested model.
    """

    __slots__ = ("_backend", "_request", "model")

    def __init__(self, backend: Backend, request: Request) -> None:
        self._backend = backend
        self._request = request
        self.model: str = backend.model_id  # taken now, because the backend's model may be changed afterwards

    @property
    def backend(self) -> str:
        """Name of the provider that got the request."""
        return self._backend.name

    @property
    def server(self) -> tuple[str, int | None] | None:
        """Host and port of the server; `None` for a model in this process."""
        return self._backend.server

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation, oldest first."""
        return self._request.messages

    @property
    def tools(self) -> tuple[ToolSpec | BuiltinTool, ...]:
        """The tools offered to the model."""
        return tuple(
            replace(tool, config=hide_keys(tool.config)) if isinstance(tool, BuiltinTool) else tool
            for tool in self._request.tools
        )

    @property
    def output_schema(self) -> OutputSchema | None:
        """The schema that the answer had to match."""
        return self._request.output_schema

    @property
    def options(self) -> Mapping[str, Any]:
        """The model options, merged."""
        options = self._request.options
        if not options:
            return options
        return {name: hide_keys(value) if name in MAY_HOLD_KEYS else value for name, value in options.items()}

    @property
    def deadlines(self) -> Deadlines:
        """The deadlines of the request."""
        return self._request.deadlines

    @property
    def payload(self) -> Mapping[str, Any] | None:
        """The JSON body in the provider's own format; `None` if the backend sends none."""
        return self._backend.wire_payload(self._request)

    def __repr__(self) -> str:
        names = ", ".join(self._request.options)
        return (
            f"<SentRequest to {self.backend}/{scrub_label(self.model)}: {len(self.messages)} messages, "
            f"{len(self._request.tools)} tools, options: {names or 'none'}>"
        )
