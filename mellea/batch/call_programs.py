"""Programs in which each row is one model call: prompt functions, and verbs of sessions.

Rows neither read nor extend a session's context; their cost counts towards the session, and closing it cancels them.
"""

from __future__ import annotations

import inspect
import json
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from mellea.batch.identity import RequestDigests, find_form, make_digest, name_function
from mellea.batch.program import Asked, Program, Work, dump_typed, load_typed
from mellea.core.accumulator import Generation
from mellea.core.backend import Backend, Request
from mellea.core.events import Event
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.runtime.ledger import Meter, current_ledger
from mellea.core.sampling import Attempt, SamplingResult
from mellea.core.serialise import from_jsonable, to_jsonable
from mellea.core.thunk import ComputedModelOutputThunk, ModelOutputThunk, make_computed
from mellea.errors import UsageError
from mellea.stdlib import components, functional
from mellea.stdlib.call import Call, finish
from mellea.stdlib.context import SimpleContext
from mellea.stdlib.functional import Verb
from mellea.stdlib.generative.function import is_text_function, prepare_verb, trace_rows
from mellea.stdlib.generative.settings import RESERVED
from mellea.stdlib.session import MelleaSession
from mellea.stdlib.verb import ActArguments, ChatArguments, InstructArguments

__all__ = ["VERBS", "PromptProgram", "VerbProgram"]


class _CallWork(Work):
    __slots__ = ("_program", "_session", "_verb", "request")

    def __init__(
        self, program: _CallProgram, session: MelleaSession, verb: Verb, request: Request, digest: bytes
    ) -> None:
        self._program, self._session, self._verb = program, session, verb
        self.request, self.digest, self.backend = request, digest, verb.call.backend

    async def ask(self, meter: Meter) -> Any:
        return await self._program.ask(self, meter)

    async def launch(self, meter: Meter) -> Any:
        """Ask, and return the value."""
        # The call is registered with the session, so closing the session cancels it like any other.
        with self._session.registering():
            ledger = current_ledger.get()
            # The row's own meter counts this call, and passes everything on to a ledger around the map.
            token = current_ledger.set(meter if ledger is None else meter.around(ledger))
            try:
                thunk, _ = self._verb.launch(SimpleContext(), self.request)
            finally:
                current_ledger.reset(token)
        await finish(thunk)
        return self._program.get_value(thunk)

    @property
    def asked(self) -> Asked:
        """The call of this work."""
        verb = self._verb
        call = verb.call

        async def finish_row(events: list[Event]) -> tuple[Any, Generation]:
            thunk = await _make_thunk(events, call)
            return self._program.get_value(thunk), thunk.record.so_far()

        # Only in this case does a row consist of a single answer: a provider's batch can't run checks or tools in
        # between.
        is_plain = not verb.requirements and call.loop is None and call.prefix is None
        return Asked(call.backend, self.request, finish_row, is_plain, call.component, self._session.id)

    def dump(self, value: Any) -> str | None:
        return self._program.dump(value)

    async def load(self, text: str) -> Any:
        return await self._program.load(text, self._verb)


class _CallProgram(Program):
    """A program in which each row is one verb."""

    def __init__(self, function: Any, version: str | None, name: str) -> None:
        super().__init__(function, version, name)
        self._digests = RequestDigests()
        self._last: Verb | None = None  # whose requirements and strategy were examined last
        self._checks = b""
        self.ask: Callable[[_CallWork, Meter], Awaitable[Any]] = _CallWork.launch

    async def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work:
        session, verb = await self.prepare_verb(args, kwargs)
        call, request = await verb.call.render_alone()
        # The sets of tools have been loaded, and the request belongs to the call that holds them.
        if call is not verb.call:
            verb = Verb(call, verb.strategy, verb.requirements, verb.strict, verb.release)
        # Hashing costs more than rendering a short prompt, so it is skipped where no journal asks for the key.
        return _CallWork(self, session, verb, request, self._digest(verb, request) if self.is_keyed else b"")

    def _digest(self, verb: Verb, request: Request) -> bytes:
        digest = self._digests.add(request, verb.call.backend)
        digest.update(self._digest_checks(verb))
        return bytes(digest.digest())

    def _digest_checks(self, verb: Verb) -> bytes:
        """Return the digest of the checks of the answer, which is the same for nearly all rows."""
        last = self._last
        is_same = (
            last is not None
            and last.strategy is verb.strategy
            and last.strict is verb.strict
            and len(last.requirements) == len(verb.requirements)
            # Compared by identity, which costs nothing: rows of one map nearly always share these objects.
            and all(map(_is, last.requirements, verb.requirements))
            and last.call.loop is verb.call.loop
            and last.call.format is verb.call.format
        )
        if not is_same:
            self._last = verb
            # After a check has changed, the row has to be requested again, because an old answer may fail it.
            self._checks = make_digest(
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
        """Return the row's prepared verb, and its session."""

    @abstractmethod
    def get_value(self, thunk: ModelOutputThunk[Any]) -> Any:
        """Return the function's result for an answer."""

    @abstractmethod
    def dump(self, value: Any) -> str:
        """See `Work.dump`."""

    @abstractmethod
    async def load(self, text: str, verb: Verb) -> Any:
        """See `Work.load`."""


def _is(one: object, other: object) -> bool:
    return one is other


class PromptProgram(_CallProgram):
    """A `@generative` function or a `@command`."""

    def __init__(self, function: Any, version: str | None) -> None:
        super().__init__(function, version, name_function(function))
        self._is_text = is_text_function(function)
        self.ask = trace_rows(function, self.ask)
        self.read_signature(function)

    def check_fields(self, row: Mapping[str, Any]) -> None:
        """Check that the function takes the fields of a row, and that none is one of its options."""
        # Otherwise a column with the name of an option would silently change the request.
        if reserved := next((name for name in row if name in RESERVED), None):
            raise UsageError(
                f"a row has a field {reserved!r}, which would be an option of {self.name}(); rename it, or use "
                f".with_options({reserved}=…)"
            )
        super().check_fields(row)

    async def prepare_verb(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[MelleaSession, Verb]:
        """Return what the row asks, and of which session."""
        return await prepare_verb(self.function, args, kwargs)

    def get_value(self, thunk: ModelOutputThunk[Any]) -> Any:
        """Return the function's result for an answer."""
        return thunk.value if self._is_text else thunk.parsed

    def dump(self, value: Any) -> str:
        """Return a value as JSON."""
        return json.dumps(value, ensure_ascii=False) if self._is_text else dump_typed(value)

    async def load(self, text: str, verb: Verb) -> Any:
        """Return the value that `dump` wrote."""
        return json.loads(text) if self._is_text else load_typed(text, verb.call.format)


Named = dict[str, Any]
"""The arguments of a verb by name; the parts of the task are removed from them."""


def _say_instruct(arguments: Named) -> Any:
    return functional.instruction(arguments.pop("description"), cast("InstructArguments", arguments))


def _say_chat(arguments: Named) -> Any:
    return functional.message(arguments.pop("content"), cast("ChatArguments", arguments))


def _say_act(arguments: Named) -> Any:
    return arguments.pop("component")


def _say_query(arguments: Named) -> Any:
    return components.Query(arguments.pop("obj"), arguments.pop("query"))


VERBS: Mapping[str, Callable[[Named], Any]] = {
    "instruct": _say_instruct,
    "chat": _say_chat,
    "act": _say_act,
    "query": _say_query,
}
"""The verbs of a session that can be mapped, each with the function that makes its component."""


class VerbProgram(_CallProgram):
    """A verb of a session, such as `m.instruct`; the value is a thunk."""

    def __init__(self, function: Any, version: str | None, session: MelleaSession, verb: str) -> None:
        super().__init__(function, version, f"mellea.{verb}")
        self._session = session
        self._say = VERBS[verb]
        self._signature = inspect.signature(function)
        self.read_signature(function)

    async def prepare_verb(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[MelleaSession, Verb]:
        """Return the row's prepared verb, and its session."""
        try:
            given: Named = dict(self._signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise UsageError(f"the row doesn't fit {self.name}(): {error}") from None
        for name, default in (("await_result", True), ("return_sampling_results", False)):
            if given.pop(name, default) is not default:
                raise UsageError(f"{name}={not default} can't be mapped: the value of a row is the finished thunk")
        format = given.pop("format", None)
        component = self._say(given)
        arguments = cast("ActArguments", given)
        return self._session, functional.prepare(component, self._session, arguments, format=format)

    def get_value(self, thunk: ModelOutputThunk[Any]) -> Any:
        """Return the function's result for an answer."""
        return thunk

    def dump(self, value: Any) -> str:
        """Return a value as JSON."""
        # The events rather than the value, so that usage, finish reason and tool calls are restored too, and are parsed
        # as usual.
        run = value.record
        form: dict[str, Any] = {"events": to_jsonable(run.events[: run.limit]), "seconds": run.time_to_first_token}
        if not value.success:
            failures = value.sampling.attempts[value.sampling.chosen].failures
            form["failures"] = [[str(requirement), result.reason] for requirement, result in failures]
        return json.dumps(form, ensure_ascii=False, separators=(",", ":"))

    async def load(self, text: str, verb: Verb) -> Any:
        """Return the value that `dump` wrote."""
        form = json.loads(text)
        thunk = await _make_thunk(from_jsonable(form["events"]), verb.call)
        thunk.record.time_to_first_token = form["seconds"]
        if "failures" in form:
            unmet = tuple((Requirement(name), ValidationResult(False, reason)) for name, reason in form["failures"])
            attempt = Attempt(1, thunk.without_sampling(), None, unmet)
            # Only one failed attempt is known, because a journal doesn't store the attempts before the chosen one.
            thunk.record.sampling = SamplingResult(False, (attempt,), 0)
        return thunk

    def backends(self) -> list[Backend]:
        """Return the backends that it uses."""
        return [self._session.backend]


async def _make_thunk(events: list[Event], call: Call) -> ComputedModelOutputThunk[Any]:
    """Return a thunk for a call whose answer is known."""
    generation = make_computed(events).record.so_far()
    return make_computed(events, parsed=await call.parse(generation), format=call.format)
