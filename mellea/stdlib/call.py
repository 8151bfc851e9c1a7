"""One model call: check it, wait for its ingredients, render it, launch the run, put the turn into the context."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, Unpack

from mellea.backends.text_tools import with_tools
from mellea.core.accumulator import Generation
from mellea.core.backend import Backend, BuiltinTool, Request, ToolSpec, check_supported
from mellea.core.blocks import CBlock, FileBlock
from mellea.core.component import walk
from mellea.core.context import Context, Turn
from mellea.core.events import Event, TextDelta
from mellea.core.messages import Message
from mellea.core.observer import listening
from mellea.core.options import (
    DEFAULT_DEADLINES,
    Deadlines,
    ModelOption,
    check_options,
    list_unshaped_options,
    scoped_options,
    strip_shape,
    unshaped_backend,
)
from mellea.core.runtime import Corrector, LaunchArguments, Parse, Record, Run, launch, send
from mellea.core.runtime.tasks import run_in_thread, run_together
from mellea.core.thunk import ModelOutputThunk
from mellea.core.values import quick_value
from mellea.errors import MelleaError, UnsupportedError, UsageError
from mellea.stdlib import components
from mellea.stdlib import tools as tool_room
from mellea.stdlib.components import Conversation, Instruction, as_component, render_messages
from mellea.stdlib.components.parsing import parse_as, parse_by, parse_message
from mellea.stdlib.context import SimpleContext
from mellea.stdlib.tools import MAX_TURNS, CheckedTool, Tool, ToolSet, as_tools, has_sets, load_tools
from mellea.stdlib.verb import CallArguments

if TYPE_CHECKING:
    from mellea.core.structured import OutputFormat
    from mellea.stdlib.tools import Step, ToolLoop

__all__ = ["Answering", "Call", "finish"]

C = TypeVar("C", bound=Context)

_QUICK_LENGTH = 4096
"""The longest text, in characters, that is parsed on the loop if no user code is called: it takes less than a few
milliseconds."""

_ANY_LENGTH = float("inf")

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})

_NO_ARGUMENTS: CallArguments = {}  # never changed in place

_LONGEST_WAY = 3
"""How many components an error's notes name, besides the last one."""


@quick_value
class Call:
    """A call whose arguments have been checked as far as possible.

    Args:
        component: what to say.
        backend: whom to say it to.
        options: all model options, merged.
        given: those of them that aren't the backend's own, tools included.
        format: the type of the answer; one that only calls tools has the result `None`.
        tools: tools that the model may ask for; sets among them are loaded before the call is rendered.
        deadlines: how long to wait.
        loop: how tools are run; `None` only returns the calls.
        prefix: text that the answer begins with.
        arguments: those of the verb; their model options are in `given`, too.
        turn: the input as a turn of a context, which caches its rendering.
    """

    component: Any
    backend: Backend
    options: Mapping[str, Any] = field(repr=False)  # they may contain keys
    given: Mapping[str, Any] = field(repr=False)
    format: OutputFormat[Any] | None = None
    tools: tuple[CheckedTool, ...] = ()
    deadlines: Deadlines = DEFAULT_DEADLINES
    loop: ToolLoop | None = None
    prefix: str | None = None
    arguments: CallArguments = field(default_factory=CallArguments, repr=False)
    turn: Turn = field(default_factory=partial(Turn, None), repr=False)

    can_wait: ClassVar[bool] = False  # whether its loop may be suspended

    @classmethod
    def make(
        cls,
        component: Any,
        backend: Backend,
        arguments: CallArguments = _NO_ARGUMENTS,
        *,
        format: Any = None,
        defaults: Mapping[str, Any] = _NO_OPTIONS,
        is_own: bool = False,
    ) -> Self:
        """Check the arguments of a call, and create it.

        Of model options, those of the call take precedence over those of `with options(…)` blocks around, then come the
        defaults, then the backend's.

        Args:
            component: what to say.
            backend: whom to say it to.
            arguments: those of the verb.
            format: a type, or a JSON Schema as a dict, that the answer is to have.
            defaults: the session's options, checked.
            is_own: whether the library makes the call for itself. It then ignores what shapes the user's answer, such
                as its length; its own options are in `model_options`.

        Raises:
            UsageError: an argument is of a wrong type, or an option is unknown.
            UnsupportedError: the backend can't do what is asked.
        """
        given = {**defaults, **scoped_options.get()}
        if is_own:
            given = strip_shape(given)
        options, tools = arguments.get("model_options"), arguments.get("tools")
        if options is not None:
            given.update(check_options(options))
        if tools is not None:
            given[ModelOption.TOOLS] = as_tools(tools)
        said = as_component(component)
        prefix = getattr(said, "output_prefix", None)
        return cls._of(
            said,
            backend,
            given,
            arguments,
            format=None if format is None else _format(format),
            prefix=None if prefix is None else str(prefix),
            is_own=is_own,
        )

    @classmethod
    def _of(
        cls,
        component: Any,
        backend: Backend,
        given: Mapping[str, Any],
        arguments: CallArguments,
        *,
        format: OutputFormat[Any] | None,
        prefix: str | None,
        is_own: bool,
        turn: Turn | None = None,
    ) -> Self:
        """Create a call from its component, backend and given options, from which everything else about options
        follows."""
        others = backend.model_options
        if is_own or unshaped_backend.get() is backend:
            others = strip_shape(others)
        options = {**others, **given}
        timeout, tools = options.pop(ModelOption.TIMEOUT, None), options.pop(ModelOption.TOOLS, ())
        if tools:
            tools = as_tools(tools)
        loop = None
        if arguments:  # nearly always there are none
            turns = arguments.get("max_turns", MAX_TURNS)
            loop = tool_room.choose_loop(arguments.get("loop"), arguments.get("tool_calls", "show"), turns)
            if arguments.get("tool_calls") is False:
                tools = ()
        call = cls(
            component,
            backend,
            options,
            given,
            format,
            tools if loop is None else loop.check_tools(tools, can_wait=cls.can_wait),
            DEFAULT_DEADLINES if timeout is None else Deadlines.of(timeout),
            loop,
            prefix,
            arguments,
            Turn(component) if turn is None else turn,
        )
        call._check()
        return call

    async def load(self) -> Self:
        """Return this call with the tools of its sets, which are loaded if necessary.

        Raises:
            ToolError: a set can't be loaded.
            UsageError: two tools have the same name, or one doesn't work with the call.
        """
        if not (self.tools and has_sets(self.tools)):
            return self
        tools = await load_tools(self.tools)
        loop = self.loop
        call = replace(self, tools=tools if loop is None else loop.check_tools(tools, can_wait=True))
        call._check()
        return call

    def vary(
        self,
        component: Any = None,
        *,
        backend: Backend | None = None,
        model_options: Mapping[str, Any] | None = None,
        prefix: str | None = None,
        is_own: bool = False,
    ) -> Self:
        """Return a copy of this call with some fields replaced.

        Args:
            component: what to say; the answer begins with its `output_prefix`, if it has one.
            backend: whom to say it to.
            model_options: options that take precedence over those of the call.
            prefix: text that the answer begins with.
            is_own: whether the library repeats the task for itself, as in `make`; a system prompt stays.

        Raises:
            UsageError: an option is unknown.
            UnsupportedError: the backend can't do what is asked.
        """
        own_prefix = self.prefix
        if component is not None:
            component = as_component(component)
            begins = getattr(component, "output_prefix", None)
            own_prefix = own_prefix if begins is None else str(begins)
        given, arguments = self.given, self.arguments
        if is_own:
            arguments = {**arguments, "tool_calls": "show", "loop": None}
            system = self.options.get(ModelOption.SYSTEM_PROMPT)  # the task still has to be understood
            given = {**strip_shape(given), **({} if system is None else {ModelOption.SYSTEM_PROMPT: system})}
        return self._of(
            self.component if component is None else component,
            self.backend if backend is None else backend,
            {**given, **check_options(model_options)},
            arguments,
            format=self.format,
            prefix=own_prefix if prefix is None else prefix,
            is_own=is_own,
            turn=self.turn if component is None else None,
        )

    def strip_format(self) -> Self:
        """Return this call for plain text, without format and tools."""
        options = {name: value for name, value in self.options.items() if name != ModelOption.TOOL_CHOICE}
        return replace(self, format=None, tools=(), loop=None, options=options)

    def _check(self) -> None:
        if self.tools:
            tool_room.check_choice(self.options.get(ModelOption.TOOL_CHOICE), self.tools)
        if self.prefix is not None and self.loop is not None:
            raise UsageError(
                f"output_prefix={self.prefix!r} can't be combined with tool_calls='run', where the answer consists of "
                f"several; leave one of them out"
            )
        can = self.backend.capabilities
        if self.prefix is not None and not can.prefill:
            raise UnsupportedError(
                f"the backend {self.backend.name!r} can't begin an answer with a given text; leave out output_prefix=",
                backend=self.backend.name,
                model=self.backend.model_id,
            )
        backend = with_tools(self.backend) if self.tools else self.backend
        can = backend.capabilities
        files = []
        for part in () if can.images and can.files else walk(self.component):
            if isinstance(part, FileBlock):
                files.append(Message("user", part))  # noqa: PERF401 - a comprehension is a function of its own
        if files or self.tools or self.format is not None or not self.options.keys() <= can.options:
            check_supported(backend, self._request(files))

    async def render_alone(self) -> tuple[Self, Request]:
        """Return this call, with its tools loaded, and its request, without any earlier turns.

        Raises:
            MelleaError: an ingredient failed, or a set of tools can't be loaded.
        """
        if pending := _pending([self.component]):
            await _await_ingredients(pending, self.component)
        call = await self.load()
        return call, call._render(())

    def launch(
        self, context: C, *, correction: Corrector | None = None, request: Request | None = None
    ) -> tuple[ModelOutputThunk[Any], C]:
        """Start the generation on the running loop, and return it with the context that has the new turn.

        A list of messages is the whole request: the context is neither read nor extended.

        Args:
            context: the earlier turns.
            correction: what to do about an answer that isn't a value of the requested type.
            request: the request, if it is already rendered.

        Raises:
            StreamingError: a thunk that it would wait for can't end before the call does.
        """
        history = SimpleContext() if isinstance(self.component, Conversation) else context
        turns = history.list_awaited_turns()
        parts = walk(self.component)
        pending = _pending(parts, _unsaid(turns) if turns else ())
        # Without ingredients to wait for, a failing template is the verb's own error.
        is_ready = not pending and history.is_immediate and not (self.tools and has_sets(self.tools))
        if request is None and is_ready:
            request = self._render(turns)
        answering = self.answering(request, history, pending)
        ready = answering.get_ready if request is None else None
        if self.loop is not None:
            overdue = f"the model {self.backend.model_id!r} and its tools"
            return self.begin(
                context, pending, parts, ready=ready, work=answering.work, overdue=overdue, correction=correction
            )
        parse, quick_length = self._parse()
        return self.begin(
            context,
            pending,
            parts,
            ready=ready,
            open=answering.open,
            parse=parse,
            quick_length=quick_length,
            correction=correction,
        )

    def answering(
        self, request: Request | None, history: Context, pending: Sequence[ModelOutputThunk[Any]]
    ) -> Answering:
        """Return what the run of this call works with.

        Args:
            request: the request, if it could already be rendered.
            history: the earlier turns.
            pending: the thunks that it waits for.
        """
        return Answering(self, request, history, pending)

    def begin(
        self,
        context: C,
        ingredients: Sequence[ModelOutputThunk[Any]],
        parts: Iterable[Any] | None = None,
        **how: Unpack[LaunchArguments],
    ) -> tuple[ModelOutputThunk[Any], C]:
        """Launch the work that answers this call, and return it with the context that has the new turn.

        Args:
            context: the one to put the turn into.
            ingredients: the thunks that it waits for.
            parts: the component's parts, if they are known.
            how: arguments of `core.runtime.launch`.

        Raises:
            StreamingError: a thunk that it would wait for can't end before the call does.
        """
        backend = self.backend
        how.setdefault("label", self.component)
        run = launch(
            links=_records(walk(self.component) if parts is None else parts) if listening.count else (),
            deadlines=self.deadlines,
            dependencies=[thunk.record for thunk in ingredients] if ingredients else (),
            format=self.format,
            backend=backend.name,
            model=backend.model_id,
            server=backend.server if listening.count else None,
            **how,
        )
        thunk: ModelOutputThunk[Any] = ModelOutputThunk(run)
        if isinstance(self.component, Conversation):
            return thunk, context
        return thunk, context.add_turn(self.turn, thunk)

    def ingredients(self, context: Context) -> list[ModelOutputThunk[Any]]:
        """Return the thunks that the call waits for, each once."""
        turns = [] if isinstance(self.component, Conversation) else context.list_awaited_turns()
        return _pending(walk(self.component), _unsaid(turns))

    def _parse(self) -> tuple[Parse | None, float]:
        """Return the parser, and the text length up to which it runs on the loop."""
        if self.format is not None:
            own = [tool for tool in self.tools if not isinstance(tool, (BuiltinTool, ToolSet))]
            offered = None if has_sets(self.tools) else frozenset([tool.name for tool in own])
            return partial(parse_as, self.format, offered), _QUICK_LENGTH if self.format.is_quick else -1
        if isinstance(self.component, (CBlock, Instruction)):
            return None, _ANY_LENGTH
        if isinstance(self.component, (Message, Conversation)):
            return parse_message, _ANY_LENGTH
        return partial(parse_by, self.component), -1

    async def parse(self, generation: Generation) -> Any:
        """Parse a complete generation into the typed result of this call.

        Raises:
            ParseError: it is not a value of the requested type.
        """
        parse, quick_length = self._parse()
        if parse is None:
            return generation.text
        return parse(generation) if len(generation.text) <= quick_length else await run_in_thread(parse, generation)

    def _request(self, messages: Iterable[Message]) -> Request:
        options = dict(self.options)
        options.pop(ModelOption.SYSTEM_PROMPT, None)
        schema = self.format.schema if self.format is not None else None
        specs = _specs(self.tools) if self.tools else ()
        return Request(tuple(messages), specs, schema, options, self.deadlines)

    def _render(self, turns: Iterable[Turn]) -> Request:
        messages: list[Message] = []
        model = self.backend.model_id
        for turn in turns:
            messages += turn.render(model, render_messages)
            answered = () if turn.output is None else turn.output.so_far().messages
            messages += [message for message in answered if message.blocks]
        messages += self.turn.render(model, render_messages, force=True)
        system = self.options.get(ModelOption.SYSTEM_PROMPT)
        if system is not None and not any(message.role == "system" for message in messages):
            messages.insert(0, Message("system", system))
        if self.prefix is not None:
            messages.append(Message("assistant", self.prefix))
        return self._request(messages)


class Answering:
    """A call that is being answered: the state of its run."""

    __slots__ = ("_history", "_pending", "call", "request", "run")

    def __init__(
        self, call: Call, request: Request | None, history: Context, pending: Sequence[ModelOutputThunk[Any]]
    ) -> None:
        self.call = call
        self.request: Any = request  # set when `open` or `work` starts
        self._history = history
        self._pending = pending

    async def get_ready(self, run: Run) -> None:
        """Wait for the ingredients, and render the request."""
        if self._pending:
            await _await_ingredients(self._pending, self.call.component)
        self.call = await self.call.load()
        with list_unshaped_options(self.call.backend):  # for a compactor that calls a model
            turns = await _prepare_turns(self._history, self.call.backend.model_id)
        self.request = self.call._render(turns)

    def open(self, run: Run) -> AsyncIterator[Event]:
        """Send the request, and return the backend's events."""
        call = self.call
        events = send(run, with_tools(call.backend) if call.tools else call.backend, self.request)
        return events if call.prefix is None else _prefix_events(call.prefix, events)

    async def work(self, run: Run) -> Any:
        """Run the tool loop."""
        call = self.call
        self.run = run
        loop: Any = call.loop
        try:
            answer = await loop.work(run, self)
        except MelleaError as error:
            error.partial = run.text()  # of all steps, not only the last one
            raise
        return await call.parse(answer if call.format is None else run.so_far())  # a value may go on over steps

    def step(self, number: int, messages: Sequence[Message]) -> Step:
        """Return the next step of the loop: the request, and the messages since."""
        call = self.call
        options = dict(self.request.options)
        if messages:
            options.pop(ModelOption.TOOL_CHOICE, None)  # a tool that must be called once needn't be called forever
        return tool_room.Step(number, call.backend, (*self.request.messages, *messages), call.tools, options)

    def find_limit(self, step: Step, answer: Generation) -> str | None:
        """Return which limit an answer has reached: a call has only those of the loop."""
        return None

    def name_limit(self, limit: str) -> str:
        """Return the argument that sets the number of steps."""
        return "max_turns=" if self.call.arguments.get("loop") is None else "max_steps= of the ToolLoop"

    def goes_on(self) -> bool:
        """Whether the model is asked again after an answer without calls: no."""
        return False

    async def correct(self, step: Step, answer: Generation) -> Step | None:
        """Return the corrective prompt: none, since correcting answers is the strategy's job."""
        return None

    def ask(self, step: Step) -> Run:
        """Launch the request of a step."""
        call, whole, backend = self.call, self.run, with_tools(step.backend)
        deadlines = replace(call.deadlines, total=None)  # the deadline applies to the whole loop
        schema = call.format.schema if call.format is not None else None
        request = Request(step.messages, _specs(step.tools), schema, step.options, deadlines)
        return launch(
            lambda run: send(run, backend, request, whole=whole),
            label=call.component,
            deadlines=deadlines,
            backend=backend.name,
            model=backend.model_id,
            server=backend.server,
        )

    def tell(self, result: Any) -> Any:
        """Return a tool's result as prompt text."""
        return components.render_result(result)


def _specs(tools: Iterable[Any]) -> tuple[ToolSpec | BuiltinTool, ...]:
    known = [tool for tool in tools if not isinstance(tool, ToolSet)]  # only has sets while a call is checked
    return tuple([tool.spec if isinstance(tool, Tool) else tool for tool in known])


async def finish(thunk: ModelOutputThunk[Any]) -> None:
    """Wait for a thunk that nothing else holds: if the wait is cancelled, so is the request."""
    record = thunk.record
    try:
        await record.wait_until_final()
    finally:
        if not record.is_closed:
            await record.cancel_and_wait()  # if the run has ended, this only waits for the close
    thunk.deliver()


async def _await_ingredients(thunks: Iterable[ModelOutputThunk[Any]], component: Any) -> None:
    """Wait for all thunks, or for the first that fails, whose error gets a note that names what needed it."""
    try:
        await run_together([thunk.avalue for thunk in thunks])
    except MelleaError as error:
        error.partial = ""  # the text is the ingredient's; none of this answer has arrived
        _note_way(error, f"it is an ingredient of {_describe(component)}")
        raise


def _note_way(error: MelleaError, step: str) -> None:
    """Add a note to an error for each component that it passes; of many, the first ones and the last."""
    notes = getattr(error, "__notes__", [])
    if len(notes) > _LONGEST_WAY:
        notes[_LONGEST_WAY - 1 :] = ["… and of others in between"]
    error.add_note(step)


def _describe(component: Any) -> str:
    said = getattr(component, "name", None) or getattr(component, "description", None) or component
    text = str(said) if isinstance(said, (str, CBlock)) else type(component).__name__
    return f"{text[:60]!r}"


async def _prefix_events(prefix: str, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    yield TextDelta(prefix)
    try:
        async for event in events:
            yield event
    finally:
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


def _pending(parts: Iterable[Any], values: Iterable[Any] = ()) -> list[ModelOutputThunk[Any]]:
    """Find the uncomputed thunks among parts and inside values, each once."""
    found: dict[int, ModelOutputThunk[Any]] = {}
    for some in (parts, *map(walk, values)):
        for part in some:
            if isinstance(part, ModelOutputThunk) and not part.is_computed():
                found[id(part)] = part
    return list(found.values())


def _records(parts: Iterable[Any]) -> list[Record]:
    return [part.record for part in parts if isinstance(part, ModelOutputThunk)]


def _format(format: Any) -> OutputFormat[Any] | None:
    if format is None or format is str:
        return None
    from mellea.core.structured import make_output_format  # lazy: plain text doesn't need it

    return make_output_format(format)


def _unsaid(turns: Iterable[Turn]) -> list[Any]:
    """Return the parts of the turns, except turns of earlier calls, whose thunks are computed."""
    return [part for turn in turns if not turn.is_said for part in (turn.input, turn.output)]


async def _prepare_turns(history: Context, model: str) -> list[Turn]:
    for turn in () if history.is_immediate else history.list_awaited_turns():
        turn.render(model, render_messages)  # a compactor or token counter sees these turns
    turns = await history.prepare_view()
    for thunk in _pending((), _unsaid(turns)):  # those that the user's compactor added
        await thunk
    return turns
