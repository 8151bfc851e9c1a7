"""Programs: one interface to everything that rows can be mapped with. A program turns each row into work.

The work knows its digest before any request is made. A model call is rendered once, both for the digest and for the
request.
"""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mellea.core.accumulator import Generation
from mellea.core.backend import Backend, Request
from mellea.core.events import Event
from mellea.core.runtime.ledger import Meter
from mellea.core.serialise import json_value
from mellea.errors import StateError, UsageError

__all__ = ["Asked", "Program", "Work", "dump_typed", "load_typed"]


_LONGEST_SIGNATURE = 200
"""Up to how many characters a message shows what a function takes; the verbs take a screenful."""


class Work(ABC):
    """The work on one row.

    Attributes:
        digest: of everything that affects the answer; `b""` if the answer isn't stored.
        backend: the backend that it uses, if known.
    """

    __slots__ = ("backend", "digest")

    digest: bytes
    backend: Backend | None

    @property
    def asked(self) -> Asked | None:
        """Its single model call; `None` if it is something else."""
        return None

    @abstractmethod
    async def ask(self, meter: Meter) -> Any:
        """Do the work, and return the value; its requests are counted by the meter."""

    @abstractmethod
    def dump(self, value: Any) -> str | None:
        """Return the value as JSON, `None` if it shouldn't be stored, as for a run that waits for a person.

        Raises:
            UsageError: it has no form from which it could be restored.
        """

    @abstractmethod
    async def load(self, text: str) -> Any:
        """Return the value that `dump` wrote.

        Raises:
            StateError: it isn't a value of this work.
        """


@dataclass(frozen=True, slots=True)
class Asked:
    """The model call of some work, for sending it in another way, such as in a provider's batch.

    Args:
        backend: the backend to use.
        request: the request.
        finish: turns the events of the complete answer into the row's value, and reports the result.
        is_plain: whether it consists of a single answer, without checks or tools that are run.
        component: the component that is sent, which names the call in traces.
        session: the id of the session that makes it.
    """

    backend: Backend
    request: Request
    finish: Callable[[list[Event]], Awaitable[tuple[Any, Generation]]]
    is_plain: bool
    component: Any
    session: str


class Program(ABC):
    """A function that is mapped over rows.

    Args:
        function: the function that was passed.
        version: the caller's own version of it.

    Attributes:
        name: the qualified name, under which a journal keeps its answers.
        parameters: the names of the parameters; `None` if it takes any.
        signature: its signature, `None` if that isn't known.
        is_keyed: whether answers are stored, so that digests are needed.
        warns_of_change: whether to warn if a row is requested again because something that affects its answer has
            changed.
    """

    warns_of_change = True
    parameters: frozenset[str] | None = None
    signature: inspect.Signature | None = None
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

    def read_signature(self, function: Any) -> None:
        """Read from a function what rows have to fit."""
        try:
            self.signature = inspect.signature(function)
        except (TypeError, ValueError):  # many of Python's own functions have none
            return
        # With `**kwargs` any field fits, so the set of parameters stays unknown.
        if not any(each.kind is each.VAR_KEYWORD for each in self.signature.parameters.values()):
            self.parameters = frozenset(self.signature.parameters)

    def check_fields(self, row: Mapping[str, Any]) -> None:
        """Check that the fields of a row are what the function takes, whatever their values are.

        Raises:
            UsageError: a field is missing, or isn't taken.
        """
        if self.signature is None or (self.parameters is not None and self.parameters == row.keys()):
            return
        try:
            self.signature.bind(**row)
        except TypeError as error:
            name, has = self.name.rpartition(".")[2], ", ".join(map(repr, row)) or "no field"
            shown = f"{name}{self.signature}"
            what = f"; it is {shown}" if len(shown) <= _LONGEST_SIGNATURE else ""
            raise UsageError(
                f"{name}() can't be called like this: {error}{what}, and the row has {has}; {self._advise_on(row)}"
            ) from None

    def _advise_on(self, row: Mapping[str, Any]) -> str:
        signature, taken = self.signature, self.parameters
        needed = [] if signature is None else [
            each.name for each in signature.parameters.values()
            if each.default is each.empty and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        ]  # fmt: skip
        missing = [name for name in needed if name not in row]
        left = [name for name in row if taken is not None and name not in taken]
        if len(missing) == len(left) == 1:
            return f"rename {left[0]!r} to {missing[0]!r}, in the rows or in the function"
        if missing:
            return f"give rows that have {', '.join(map(repr, missing))}"
        own = f"id={left[0]!r} (on the command line --id {left[0]})"
        return f"leave out {', '.join(map(repr, left))}, or pass {own} if that identifies the row"

    def backends(self) -> list[Backend]:
        """Return the backends that it is known to use."""
        return []

    def check(self) -> None:  # noqa: B027 - most need nothing
        """Reject a function whose answers can't be stored, before any request is made.

        Raises:
            UsageError: says why.
        """


def dump_typed(value: Any) -> str:
    """Return a value of some type as JSON.

    Raises:
        UsageError: it contains bytes that aren't text, which pydantic wouldn't read back, or something without a JSON
            form.
    """
    from pydantic_core import to_json  # lazy: text needs none of it

    try:
        # As text, because that is how pydantic reads bytes unless a model is configured otherwise.
        return to_json(value, inf_nan_mode="strings", bytes_mode="utf8").decode()
    except ValueError:  # lone surrogates, bytes that aren't text, and values without a JSON form
        try:
            to_json(value, inf_nan_mode="strings", bytes_mode="hex")
        except ValueError:
            return json.dumps(json_value(value))  # surrogates as escapes, which can be written
    raise UsageError(
        f"a {type(value).__name__} holds bytes that aren't text in UTF-8, which a journal can't restore; return them "
        "as text, such as base64.b64encode(…).decode()"
    )


def load_typed(text: str, format: Any) -> Any:
    """Return the value of a format that `dump_typed` wrote."""
    if format is None:
        return json.loads(text)
    try:
        return format.validate(text)
    except Exception as error:  # noqa: BLE001 - user code: a validator may raise anything
        raise StateError(f"the journal's value is no longer a valid {format.name}: {error}") from None
