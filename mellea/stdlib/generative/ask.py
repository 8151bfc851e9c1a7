"""`ask`: one prompt, one answer, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from mellea.core.messages import Message
from mellea.core.runtime.portal import blocking
from mellea.core.tracebacks import short_errors
from mellea.errors import UsageError
from mellea.stdlib.generative.items import AsyncItemStream, ItemStream, as_async_items, as_items
from mellea.stdlib.session import MelleaSession, current_session
from mellea.stdlib.session.arguments import ACT, PARTS, STREAM, InstructArguments, StreamArguments, take
from mellea.stdlib.streaming import AsyncStream, Stream

if TYPE_CHECKING:
    from typing_extensions import TypeForm  # unions, `Literal` and `Annotated` besides classes

__all__ = ["aask", "ask"]

T = TypeVar("T")


@overload
async def aask(
    prompt: Any, *, format: TypeForm[T], session: MelleaSession | None = None, **arguments: Unpack[InstructArguments]
) -> T: ...
@overload
async def aask(
    prompt: Any, *, format: None = None, session: MelleaSession | None = None, **arguments: Unpack[InstructArguments]
) -> str: ...
@overload
async def aask(
    prompt: Any, *, format: Any, session: MelleaSession | None = None, **arguments: Unpack[InstructArguments]
) -> Any: ...
@short_errors
async def aask(prompt: Any, *, format: Any = None, session: MelleaSession | None = None, **arguments: Any) -> Any:
    """Ask a model, and return its answer: the text, or a value of `format`.

    Args:
        prompt: the task in words; or a `Message`, or a list of messages.
        format: a type that the answer is to have.
        session: whom to ask; the current session by default.
        arguments: those of `instruct`. Tools are run.

    Raises:
        RequirementError: every answer fails a requirement.
        MelleaError: an argument is wrong, or the generation failed.
    """
    _check_names("ask", arguments, ACT)
    m = _chosen(session)
    arguments = _with_tools(arguments)
    if isinstance(prompt, (Message, list, tuple)):
        thunk: Any = await m.achat(prompt, format=format, **arguments)
    else:
        thunk = await m.ainstruct(prompt, format=format, **{"strict": True, **arguments})
    return thunk.value if format is None else thunk.parsed


_ask = blocking(aask)


@short_errors
class _Ask:
    """The function `ask`, with its streams."""

    __name__ = __qualname__ = "ask"

    @overload
    def __call__(
        self,
        prompt: Any,
        *,
        format: TypeForm[T],
        session: MelleaSession | None = None,
        **arguments: Unpack[InstructArguments],
    ) -> T: ...
    @overload
    def __call__(
        self,
        prompt: Any,
        *,
        format: None = None,
        session: MelleaSession | None = None,
        **arguments: Unpack[InstructArguments],
    ) -> str: ...
    @overload
    def __call__(
        self, prompt: Any, *, format: Any, session: MelleaSession | None = None, **arguments: Unpack[InstructArguments]
    ) -> Any: ...
    def __call__(self, prompt: Any, **arguments: Any) -> Any:
        """Do what `aask` does, and wait for it."""
        return _ask(prompt, **arguments)

    @overload
    def stream(
        self,
        prompt: Any,
        *,
        format: TypeForm[list[T]],
        session: MelleaSession | None = None,
        **arguments: Unpack[StreamArguments],
    ) -> ItemStream[T]: ...
    @overload
    def stream(
        self,
        prompt: Any,
        *,
        format: TypeForm[T],
        session: MelleaSession | None = None,
        **arguments: Unpack[StreamArguments],
    ) -> Stream[T]: ...
    @overload
    def stream(
        self,
        prompt: Any,
        *,
        format: None = None,
        session: MelleaSession | None = None,
        **arguments: Unpack[StreamArguments],
    ) -> Stream[str]: ...
    @overload
    def stream(
        self, prompt: Any, *, format: Any, session: MelleaSession | None = None, **arguments: Unpack[StreamArguments]
    ) -> Stream[Any]: ...
    def stream(
        self, prompt: Any, *, format: Any = None, session: MelleaSession | None = None, **arguments: Any
    ) -> Stream[Any]:
        """Make a stream for plain code: of text, or of whole items if the format is a sequence.

        The arguments are those of `ask`. It is launched when its reading begins.
        """
        _check_names("ask.stream", arguments, (*STREAM, "live"))
        m = _chosen(session)
        return as_items(m.stream(prompt, format=format, **_with_tools(arguments)), format)

    @overload
    def astream(
        self,
        prompt: Any,
        *,
        format: TypeForm[list[T]],
        session: MelleaSession | None = None,
        **arguments: Unpack[StreamArguments],
    ) -> AsyncItemStream[T]: ...
    @overload
    def astream(
        self,
        prompt: Any,
        *,
        format: TypeForm[T],
        session: MelleaSession | None = None,
        **arguments: Unpack[StreamArguments],
    ) -> AsyncStream[T]: ...
    @overload
    def astream(
        self,
        prompt: Any,
        *,
        format: None = None,
        session: MelleaSession | None = None,
        **arguments: Unpack[StreamArguments],
    ) -> AsyncStream[str]: ...
    @overload
    def astream(
        self, prompt: Any, *, format: Any, session: MelleaSession | None = None, **arguments: Unpack[StreamArguments]
    ) -> AsyncStream[Any]: ...
    def astream(
        self, prompt: Any, *, format: Any = None, session: MelleaSession | None = None, **arguments: Any
    ) -> AsyncStream[Any]:
        """Make a stream for async code, not to be awaited itself; otherwise like `stream`."""
        _check_names("ask.astream", arguments, (*STREAM, "live"))
        m = _chosen(session)
        return as_async_items(m.astream(prompt, format=format, **_with_tools(arguments)), format)


ask = _Ask()
"""Ask a model, and return its answer: `ask("…")`; `ask.stream("…")` and `ask.astream("…")` read it as it is written."""


def _chosen(session: Any) -> MelleaSession:
    if session is None:
        return current_session()
    if not isinstance(session, MelleaSession):
        raise UsageError(f"session= takes a session such as start_session(…), not {session!r}")
    return session


def _check_names(what: str, arguments: dict[str, Any], others: tuple[str, ...]) -> None:
    """Refuse what isn't taken before there is a session, which may have to be made."""
    take(what, arguments, (), ("session", *PARTS, *others))


def _with_tools(arguments: dict[str, Any]) -> dict[str, Any]:
    """Have tools run, since a call that is only shown would be lost here."""
    return {"tool_calls": "run", **arguments} if arguments.get("tools") else arguments
