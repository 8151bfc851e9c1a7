"""What `map` can be given: prompt functions, verbs of sessions, agents, and any other function, behind one interface.

A program makes *work* of each row: its key's digest, known before anything is asked, and what asks it. Work that asks a
model is rendered once, for the digest and for the request alike. Rows neither read nor extend a session's context.
"""

from __future__ import annotations

import functools
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mellea.batch.agent_json import dump_run, load_run
from mellea.batch.identity import RequestDigests, digest_of, find_form, name_function, parse_source
from mellea.core.backend import Backend, Request
from mellea.core.events import Event
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.runtime.ledger import Meter, current_ledger
from mellea.core.runtime.tasks import outcome_of
from mellea.core.sampling import Attempt, SamplingResult
from mellea.core.serialise import from_jsonable, json_value, to_jsonable
from mellea.core.thunk import ComputedModelOutputThunk, ModelOutputThunk, make_computed
from mellea.errors import StateError, UsageError
from mellea.stdlib import components, functional
from mellea.stdlib.agents import Agent, AgentRun
from mellea.stdlib.call import Call, finish
from mellea.stdlib.context import SimpleContext
from mellea.stdlib.functional import Verb
from mellea.stdlib.generative import AsyncPromptFunction, PromptFunction
from mellea.stdlib.generative.function import is_text_function, prepare_verb
from mellea.stdlib.generative.settings import RESERVED
from mellea.stdlib.session import MelleaSession, current_session
from mellea.stdlib.tools import Tool
from mellea.stdlib.tools.signature import resolve_type_hints

__all__ = ["Asked", "Program", "Work", "as_program"]

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]


class Work(ABC):
    """The work on one row.

    Attributes:
        digest: of what decides the answer; `b""` where nobody keeps it.
        backend: whom it asks, if that is known.
    """

    __slots__ = ("backend", "digest")

    digest: bytes
    backend: Backend | None

    @abstractmethod
    async def ask(self, meter: Meter) -> Any:
        """Do it, and return the value; what it asks is entered in the meter."""

    @abstractmethod
    def dump(self, value: Any) -> str | None:
        """Return the value as JSON, `None` if it isn't to be kept: a run that waits for somebody.

        Raises:
            UsageError: it has no form that comes back as it was.
        """

    @abstractmethod
    async def load(self, text: str) -> Any:
        """Return the value that `dump` has written.

        Raises:
            StateError: it isn't one of this work.
        """


@dataclass(frozen=True, slots=True)
class Asked:
    """The model call of some work, for who sends it in another way, such as in a provider's batch.

    Args:
        backend: whom to ask.
        request: what to ask.
        finish: makes the row's value of the events of the complete answer.
        is_plain: whether one answer is all of it: no checks, no tools that are run.
    """

    backend: Backend
    request: Request
    finish: Callable[[list[Event]], Awaitable[Any]]
    is_plain: bool


class Program(ABC):
    """A function that rows are mapped over.

    Args:
        function: what was given.
        version: the caller's own version of it.

    Attributes:
        name: the qualified name, which its answers stand under in a journal.
        parameters: the names of the parameters; `None` if it takes any.
        is_keyed: whether answers are kept, so that digests are needed.
    """

    parameters: frozenset[str] | None = None
    is_keyed = True

    def __init__(self, function: Any, version: str | None, name: str) -> None:
        self.function = function
        self.version = version
        self.name = name

    @abstractmethod
    async def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work:
        """Return the work of a row with these arguments.

        Raises:
            MelleaError: an argument is wrong.
        """

    def backends(self) -> list[Backend]:
        """Return the backends that it is known to ask."""
        return []

    def check(self) -> None:  # noqa: B027 - most need nothing
        """Refuse a function whose answers can't be kept, before anything is asked.

        Raises:
            UsageError: says why.
        """


# -- model calls: prompt functions, and the verbs of sessions -----------------------------------------


class _CallWork(Work):
    __slots__ = ("_program", "_session", "_verb", "request")

    def __init__(
        self, program: _CallProgram, session: MelleaSession, verb: Verb, request: Request, digest: bytes
    ) -> None:
        self._program, self._session, self._verb = program, session, verb
        self.request, self.digest, self.backend = request, digest, verb.call.backend

    async def ask(self, meter: Meter) -> Any:
        with self._session.registering():
            ledger = current_ledger.get()
            token = current_ledger.set(meter if ledger is None else meter.around(ledger))
            try:
                thunk, _ = self._verb.launch(SimpleContext(), self.request)
            finally:
                current_ledger.reset(token)
        await finish(thunk)
        return self._program.value_of(thunk)

    @property
    def asked(self) -> Asked:
        """The call of this work."""
        verb = self._verb
        call = verb.call

        async def finish_row(events: list[Event]) -> Any:
            return self._program.value_of(await _make_thunk(events, call))

        is_plain = not verb.requirements and call.loop is None and call.prefix is None
        return Asked(call.backend, self.request, finish_row, is_plain)

    def dump(self, value: Any) -> str | None:
        return self._program.dump(value)

    async def load(self, text: str) -> Any:
        return await self._program.load(text, self._verb)


class _CallProgram(Program):
    """A program whose rows are one verb each."""

    def __init__(self, function: Any, version: str | None, name: str) -> None:
        super().__init__(function, version, name)
        self._digests = RequestDigests()
        self._last: Verb | None = None  # whose requirements and strategy were looked at last
        self._checks = b""

    async def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work:
        session, verb = await self.prepare_verb(args, kwargs)
        call, request = await verb.call.render_alone()
        if call is not verb.call:
            verb = Verb(call, verb.strategy, verb.requirements, verb.strict, verb.release)
        return _CallWork(self, session, verb, request, self._digest(verb, request) if self.is_keyed else b"")

    def _digest(self, verb: Verb, request: Request) -> bytes:
        digest = self._digests.add(request, verb.call.backend)
        digest.update(self._digest_checks(verb))
        return bytes(digest.digest())

    def _digest_checks(self, verb: Verb) -> bytes:
        """Return the digest of what the answer is checked by, which is the same for nearly all rows."""
        last = self._last
        is_same = (
            last is not None
            and last.strategy is verb.strategy
            and last.strict is verb.strict
            and len(last.requirements) == len(verb.requirements)
            and all(map(_is, last.requirements, verb.requirements))
            and last.call.loop is verb.call.loop
            and last.call.format is verb.call.format
        )
        if not is_same:
            self._last = verb
            self._checks = digest_of(
                self.name,
                self.version,
                find_form(verb.requirements),
                find_form(verb.strategy),
                verb.strict,
                find_form(verb.call.loop),
            )
        return self._checks

    @abstractmethod
    async def prepare_verb(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[MelleaSession, Verb]:
        """Return what the row asks, and of which session."""

    @abstractmethod
    def value_of(self, thunk: ModelOutputThunk[Any]) -> Any:
        """Return what the function returns of an answer."""

    @abstractmethod
    def dump(self, value: Any) -> str:
        """See `Work.dump`."""

    @abstractmethod
    async def load(self, text: str, verb: Verb) -> Any:
        """See `Work.load`."""


def _is(one: object, other: object) -> bool:
    return one is other


class _PromptProgram(_CallProgram):
    """A `@generative` function or a `@command`."""

    def __init__(self, function: Any, version: str | None) -> None:
        super().__init__(function, version, name_function(function))
        self._is_text = is_text_function(function)
        names = inspect.signature(function).parameters
        if not any(each.kind is each.VAR_KEYWORD for each in names.values()):
            self.parameters = frozenset(names)

    async def prepare_verb(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[MelleaSession, Verb]:
        if reserved := next((name for name in kwargs if name in RESERVED), None):
            raise UsageError(
                f"a row has a field {reserved!r}, which would be an option of {self.name}(); rename it, or use "
                f".with_options({reserved}=…)"
            )
        return await prepare_verb(self.function, args, kwargs)

    def value_of(self, thunk: ModelOutputThunk[Any]) -> Any:
        return thunk.value if self._is_text else thunk.parsed

    def dump(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False) if self._is_text else dump_typed(value)

    async def load(self, text: str, verb: Verb) -> Any:
        return json.loads(text) if self._is_text else load_typed(text, verb.call.format)


def _say_instruct(description: Any, **arguments: Any) -> tuple[Any, dict[str, Any]]:
    return functional.instruction(description, arguments), arguments  # type: ignore[arg-type]


def _say_chat(content: Any, **arguments: Any) -> tuple[Any, dict[str, Any]]:
    return functional.message(content, arguments), arguments  # type: ignore[arg-type]


def _say_act(component: Any, **arguments: Any) -> tuple[Any, dict[str, Any]]:
    return component, arguments


def _say_query(obj: Any, query: Any, **arguments: Any) -> tuple[Any, dict[str, Any]]:
    return components.Query(obj, query), arguments


_VERBS: Mapping[str, Callable[..., tuple[Any, dict[str, Any]]]] = {
    "instruct": _say_instruct,
    "chat": _say_chat,
    "act": _say_act,
    "query": _say_query,
}


class _VerbProgram(_CallProgram):
    """A verb of a session, such as `m.instruct`; the value is a thunk."""

    def __init__(self, function: Any, version: str | None, session: MelleaSession, verb: str) -> None:
        super().__init__(function, version, f"mellea.{verb}")
        self._session = session
        self._say = _VERBS[verb]
        self._signature = inspect.signature(function)

    async def prepare_verb(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[MelleaSession, Verb]:
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise UsageError(f"the row doesn't fit {self.name}(): {error}") from None
        for name, default in (("await_result", True), ("return_sampling_results", False)):
            if kwargs.get(name, default) is not default:
                raise UsageError(f"{name}={kwargs[name]!r} can't be mapped: a row's value is the finished thunk")
        given = {
            name: value for name, value in kwargs.items() if name not in ("await_result", "return_sampling_results")
        }
        format = given.pop("format", None)
        component, arguments = self._say(*args, **given)
        return self._session, functional.prepare(component, self._session, arguments, format=format)  # type: ignore[arg-type]

    def value_of(self, thunk: ModelOutputThunk[Any]) -> Any:
        return thunk

    def dump(self, value: Any) -> str:
        run = value.record
        form: dict[str, Any] = {"events": to_jsonable(run.events[: run.limit]), "seconds": run.time_to_first_token}
        if not value.success:
            failures = value.sampling.attempts[value.sampling.chosen].failures
            form["failures"] = [[str(requirement), result.reason] for requirement, result in failures]
        return json.dumps(form, ensure_ascii=False, separators=(",", ":"))

    async def load(self, text: str, verb: Verb) -> Any:
        form = json.loads(text)
        thunk = await _make_thunk(from_jsonable(form["events"]), verb.call)
        thunk.record.time_to_first_token = form["seconds"]
        if "failures" in form:
            unmet = tuple((Requirement(name), ValidationResult(False, reason)) for name, reason in form["failures"])
            attempt = Attempt(1, thunk.without_sampling(), None, unmet)
            thunk.record.sampling = SamplingResult(False, (attempt,), 0)
        return thunk

    def backends(self) -> list[Backend]:
        return [self._session.backend]


async def _make_thunk(events: list[Event], call: Call) -> ComputedModelOutputThunk[Any]:
    """Return the thunk of a call whose answer is known."""
    generation = make_computed(events).record.so_far()
    return make_computed(events, parsed=await call.parse(generation), format=call.format)


# -- agents, and other functions ----------------------------------------------------------------------


class _AgentWork(Work):
    __slots__ = ("_agent", "_args", "_kwargs")

    def __init__(self, agent: Agent[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], digest: bytes) -> None:
        self._agent, self._args, self._kwargs, self.digest = agent, args, kwargs, digest
        self.backend = None

    async def ask(self, meter: Meter) -> AgentRun[Any]:
        token = current_ledger.set(meter)
        try:
            return await self._agent.arun(*self._args, **self._kwargs)
        finally:
            current_ledger.reset(token)

    def dump(self, value: AgentRun[Any]) -> str | None:
        return None if value.pending is not None else dump_run(value, dump_typed)

    async def load(self, text: str) -> Any:
        return load_run(text, functools.partial(load_typed, format=self._agent.format))


class _AgentProgram(Program):
    """An agent, or its `run`; the value is an `AgentRun`."""

    def __init__(self, agent: Agent[Any], version: str | None) -> None:
        super().__init__(agent, version, f"mellea.Agent.{agent.name}")
        loop = agent.loop
        self._common = [
            self.version,
            agent.instructions,
            [_tool_form(tool) for tool in agent.tools],
            None if agent.format is None else agent.format.schema.schema,
            [type(loop).__qualname__, loop.max_steps, loop.on_limit],
            find_form(agent.limits),
        ]

    async def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work:
        backend = self.backends()[0]
        work = _AgentWork(self.function, args, kwargs, b"")
        work.backend = backend
        if self.is_keyed:
            who = [self.name, self._common, backend.name, backend.model_id]
            work.digest = digest_of(who, find_form(args), find_form(dict(kwargs)))
        return work

    def backends(self) -> list[Backend]:
        model = self.function.model
        return [(current_session() if model is None else model).backend if not isinstance(model, Backend) else model]


def _tool_form(tool: Any) -> Any:
    """Return what decides what a tool does: what the model sees of it, and its source where that can be read."""
    if not isinstance(tool, Tool):
        return [type(tool).__name__, tool.name]
    try:
        source = parse_source(tool)
    except UsageError:  # a tool of a server
        source = ""
    return [tool.name, tool.spec.description, find_form(tool.spec.parameters), source]


class _PlainWork(Work):
    __slots__ = ("_args", "_kwargs", "_program")

    def __init__(self, program: _PlainProgram, args: tuple[Any, ...], kwargs: Mapping[str, Any], digest: bytes) -> None:
        self._program, self._args, self._kwargs, self.digest = program, args, kwargs, digest
        self.backend = None

    async def ask(self, meter: Meter) -> Any:
        token = current_ledger.set(meter)
        try:
            return await outcome_of(functools.partial(self._program.function, *self._args, **self._kwargs))
        finally:
            current_ledger.reset(token)

    def dump(self, value: Any) -> str:
        return self._program.dump(value)

    async def load(self, text: str) -> Any:
        return self._program.load(text)


class _PlainProgram(Program):
    """Any other function, sync (it runs in worker threads) or async."""

    def __init__(self, function: Any, version: str | None) -> None:
        super().__init__(function, version, name_function(function))
        self._source: str | None = None
        bare = function.func if isinstance(function, functools.partial) else function
        called = bare if inspect.isroutine(bare) else getattr(bare, "__call__", bare)  # noqa: B004
        try:
            hints = resolve_type_hints(called, self.name, of=("return",))
        except UsageError:  # a name that isn't known here
            hints = {}
        self._type = hints.get("return")
        self._format: Any = None
        self._find_parameters(function)

    def _find_parameters(self, function: Any) -> None:
        try:
            names = inspect.signature(function).parameters
        except (TypeError, ValueError):  # many of Python's own functions have none
            return
        if not any(each.kind is each.VAR_KEYWORD for each in names.values()):
            self.parameters = frozenset(names)

    async def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work:
        digest = b""
        if self.is_keyed:
            digest = digest_of(self.name, self.version, self._find_source(), find_form(args), find_form(dict(kwargs)))
        return _PlainWork(self, args, kwargs, digest)

    def check(self) -> None:
        self._find_source()

    def _find_source(self) -> Any:
        """Return what stands for the function itself in digests: nothing, where `version=` does."""
        if self._source is None:
            self._source = "" if self.version is not None else json.dumps(find_form(self._code()), sort_keys=True)
        return self._source

    def _code(self) -> Any:
        function = self.function
        if isinstance(function, functools.partial) or inspect.ismethod(function) or inspect.isfunction(function):
            return function
        if inspect.isroutine(function) or inspect.isclass(function):
            return parse_source(function)  # raises, and says what to do
        return [find_form(function), parse_source(type(function).__call__)]

    def dump(self, value: Any) -> str:
        if isinstance(value, ModelOutputThunk):
            raise UsageError(
                f"{self.name}() returned a thunk, which a journal can't give back; return thunk.value or thunk.parsed"
            )
        if self._type is not None and self._type is not Any:
            return dump_typed(value)
        text = dump_typed(value)
        if json.loads(text) != value or not _is_json(value):
            raise UsageError(
                f"{self.name}() returned a {type(value).__name__}, and a journal can't tell what to make of it when it "
                "is read back; annotate the function with the type that it returns"
            )
        return text

    def load(self, text: str) -> Any:
        if self._type is None or self._type is Any:
            return json.loads(text)
        if self._format is None:
            from pydantic import TypeAdapter  # lazy: only functions with a type need it

            self._format = TypeAdapter(self._type)
        try:
            return self._format.validate_json(text)
        except ValueError as error:
            raise StateError(f"the journal's value of {self.name}() isn't of its type any more: {error}") from None


def _is_json(value: Any) -> bool:
    """Whether a value is made of JSON's own types, which come back as they were."""
    if isinstance(value, dict):
        return all(type(name) is str for name in value) and all(map(_is_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or type(value) in (str, int, float, bool)


# -- values as JSON -----------------------------------------------------------------------------------


def dump_typed(value: Any) -> str:
    """Return a value of some type as JSON."""
    from pydantic_core import to_json  # lazy: text needs none of it

    try:
        return to_json(value, inf_nan_mode="strings", bytes_mode="base64").decode()
    except ValueError:  # halves of characters, and what has no JSON form
        return json.dumps(json_value(value), ensure_ascii=False)


def load_typed(text: str, format: Any) -> Any:
    """Return the value of a format that `dump_typed` has written."""
    if format is None:
        return json.loads(text)
    try:
        return format.validate(text)
    except Exception as error:  # noqa: BLE001 - user code: a validator may raise anything
        raise StateError(f"the journal's value isn't a {format.name} any more: {error}") from None


# -- from what the caller gives to a program ----------------------------------------------------------


def as_program(function: Any, version: str | None) -> Program:
    """Return what rows are mapped over as a program.

    Raises:
        UsageError: it isn't a function, or the version is no text.
    """
    if version is not None and not isinstance(version, str):
        raise UsageError(f"version= takes a text, not {version!r}")
    if isinstance(function, Agent):
        return _AgentProgram(function, version)
    owner = getattr(function, "__self__", None)
    name = str(getattr(function, "__name__", ""))
    if isinstance(owner, Agent) and name in ("run", "arun"):
        return _AgentProgram(owner, version)
    if isinstance(function, (PromptFunction, AsyncPromptFunction)):
        return _PromptProgram(function, version)
    program = _as_verb(function, version)
    if program is not None:
        return program
    if isinstance(owner, MelleaSession) and not owner.ctx.shows_turns:
        return _PlainProgram(function, version)
    if isinstance(owner, MelleaSession):  # rows don't extend its context
        twin = MelleaSession(owner.backend, SimpleContext(), model_options=owner.model_options)
        return _PlainProgram(getattr(twin, name), version)
    if not callable(function):
        raise UsageError(f"map takes a function, or an agent, not {function!r}")
    return _PlainProgram(function, version)


def _as_verb(function: Any, version: str | None) -> Program | None:
    """Return the program of a session's verb, or of a partial of one, if it is that."""
    bare = function.func if isinstance(function, functools.partial) else function
    owner, name = getattr(bare, "__self__", None), str(getattr(bare, "__name__", ""))
    verb = name[1:] if name.startswith("a") and name[1:] in _VERBS else name
    if not isinstance(owner, MelleaSession) or verb not in _VERBS:
        return None
    program = _VerbProgram(bare, version, owner, verb)
    if isinstance(function, functools.partial):
        return _Preset(program, function.args, function.keywords)
    return program


class _Preset(Program):
    """A program some of whose arguments are the same for all rows."""

    def __init__(self, program: Program, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        super().__init__(program.function, program.version, program.name)
        self.parameters = program.parameters
        self._program, self._args, self._kwargs = program, tuple(args), dict(kwargs)

    async def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work:
        self._program.is_keyed = self.is_keyed
        return await self._program.prepare((*self._args, *args), {**self._kwargs, **kwargs})

    def backends(self) -> list[Backend]:
        return self._program.backends()
