"""The context of a conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from mellea.core.context import Context, Turn
from mellea.core.entrance import entrance
from mellea.core.numbers import check_whole
from mellea.core.runtime.tasks import run_in_thread
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib.context.compaction import Compaction, Compactor, refuse_own_call
from mellea.stdlib.context.tokens import TokenCounter, estimate_tokens
from mellea.stdlib.context.window import WindowLimits, answers_tools, group_turns, select

__all__ = ["ChatContext"]

_UNCHANGED: Any = object()
"""In place of an argument that may be `None`."""


@dataclass(frozen=True, slots=True, eq=False)
class _Settings:
    """The settings that all contexts of one conversation share."""

    window_size: int | None
    token_budget: int | None
    compactor: Compactor | None
    counter: TokenCounter
    pinned: tuple[Any, ...]

    def get_limits(self) -> WindowLimits:
        return WindowLimits(self.window_size, self.token_budget, self.counter.count_turn)


class ChatContext(Context):
    """Remembers every turn; each call sees the earlier ones, within the limits of the settings.

    A turn may be added while the previous one is still being written: a call that sees it waits for it. A turn that
    failed or was cancelled isn't visible to later calls. The output of a tool is never visible without the call that it
    belongs to, and vice versa.

    Args:
        window_size: the maximum number of turns that a call sees, not counting pinned ones; unlimited by default.
        token_budget: the maximum number of tokens in the turns that a call sees, including pinned ones. The oldest
            turns are dropped first. The call's own input isn't counted.
        compactor: takes the complete turns that aren't pinned, and returns the turns to show instead; for example a
            `SummaryCompactor`, or any function, sync (then it runs in a thread) or async. It is called once at each
            point of the conversation, with its previous result and the turns since then. Window and budget apply to
            what it returns.
        count_tokens: takes a string and returns its number of tokens; by default an estimate.
        pinned: strings, messages or components that come first and are visible to every call.

    Raises:
        UsageError: an argument has a wrong type.
    """

    saved_kind: ClassVar[str] = "chat_context"
    """Its name in saved JSON."""

    __slots__ = ("_compaction", "_depth", "_is_pinned", "_pins", "_previous", "_settings", "_turn")

    @entrance(
        "ChatContext",
        max_tokens="token_budget=… limits the tokens that a call sees",
        max_turns="window_size=… limits the turns that a call sees",
        messages="m.chat([…]) takes a list of messages; ctx.add(message) puts one into a context",
    )
    def __init__(
        self,
        *,
        window_size: int | None = None,
        token_budget: int | None = None,
        compactor: Compactor | None = None,
        count_tokens: Callable[[str], int] = estimate_tokens,
        pinned: Iterable[Any] = (),
    ) -> None:
        check_whole("window_size", window_size, or_none=True)
        check_whole("token_budget", token_budget, or_none=True)
        if compactor is not None and (not callable(compactor) or isinstance(compactor, type)):
            raise UsageError(f"compactor takes a function of turns, such as WindowCompactor(4), not {compactor!r}")
        if isinstance(pinned, (str, bytes)) or not isinstance(pinned, Iterable):
            raise UsageError(f"pinned takes a list of messages or components, not {pinned!r}")
        settings = _Settings(window_size, token_budget, compactor, TokenCounter(count_tokens), tuple(pinned))
        self._begin(settings, None, None)
        # One node for each, so that turns pinned in the constructor are like those pinned later.
        for value in settings.pinned:
            self._begin(settings, self._copy(), Turn(value), is_pinned=True)

    def _begin(
        self, settings: _Settings, previous: ChatContext | None, turn: Turn | None, *, is_pinned: bool = False
    ) -> None:
        self._settings = settings
        self._previous = previous
        self._turn = turn
        self._is_pinned = is_pinned
        # Stored on each node: a view that stops at its window must know the older pins without walking to them.
        self._pins: tuple[Turn, ...] = previous._pins if previous is not None else ()
        if is_pinned and turn is not None:
            self._pins = (*self._pins, turn)
        self._depth: int = 0 if previous is None else previous._depth + 1
        # One for each node: every call from this point uses the compacted history.
        self._compaction = Compaction() if settings.compactor is not None else None

    def _copy(self) -> ChatContext:
        return self._make_node(self._previous, self._turn, is_pinned=self._is_pinned)

    def _make_node(self, previous: ChatContext | None, turn: Turn | None, *, is_pinned: bool) -> ChatContext:
        new = ChatContext.__new__(type(self))
        new._begin(self._settings, previous, turn, is_pinned=is_pinned)
        return new

    @property
    def window_size(self) -> int | None:
        """The maximum number of turns that a call sees, not counting pinned ones."""
        return self._settings.window_size

    @property
    def token_budget(self) -> int | None:
        """The maximum number of tokens in the turns that a call sees."""
        return self._settings.token_budget

    # -- adding ---------------------------------------------------------------------------------------

    def add(self, value: Any) -> ChatContext:
        """Return a context with `value` added: a thunk completes the last turn, anything else begins a new one."""
        if isinstance(value, Turn):
            return self._add_turn(value)
        if not isinstance(value, ModelOutputThunk):
            return self._add_turn(Turn(value))
        last = self._turn
        # An answer without a question, as when a conversation is assembled by hand.
        if last is None or last.output is not None:
            return self._add_turn(Turn(None, value))
        # Replaces the last node, whose turn was open.
        return self._make_node(self._previous, last.answered(value), is_pinned=self._is_pinned)

    def add_turn(self, turn: Turn, answer: ModelOutputThunk[Any]) -> ChatContext:
        """Return a context with one more turn: the input, and the answer, which may still be in progress."""
        return self._add_turn(turn.answered(answer))

    def pin(self, value: Any = None) -> ChatContext:
        """Return a context with `value` added as a turn that every call sees; without a value, pin the last turn.

        If the last turn answers tool calls, the turns with these calls are pinned as well.

        Raises:
            UsageError: there is neither a value nor a last turn.
        """
        if value is not None:
            return self.add(value)._pin_last()
        if self._turn is None:
            raise UsageError("pin() pins the last turn, but this context has none; pass what to pin: pin(…)")
        return self._pin_last()

    def _add_turn(self, turn: Turn) -> ChatContext:
        # The output of a pinned turn's tool calls belongs to that turn.
        return self._make_node(self, turn, is_pinned=self._is_pinned and answers_tools(turn))

    def _pin_last(self) -> ChatContext:
        if self._is_pinned or self._turn is None:
            return self
        previous = self._previous
        if previous is not None and answers_tools(self._turn):
            # Recursive, but only as deep as tool calls follow one another; a result without its call is refused by
            # providers.
            previous = previous._pin_last()
        return self._make_node(previous, self._turn, is_pinned=True)

    def empty(self) -> ChatContext:
        """Return a context with the same settings, whose only turns are those pinned in the constructor."""
        settings = self._settings
        return type(self)(
            window_size=settings.window_size,
            token_budget=settings.token_budget,
            compactor=settings.compactor,
            count_tokens=settings.counter.count,
            pinned=settings.pinned,
        )

    def change_settings(
        self,
        *,
        window_size: int | None = _UNCHANGED,
        token_budget: int | None = _UNCHANGED,
        compactor: Compactor | None = _UNCHANGED,
        count_tokens: Callable[[str], int] | None = _UNCHANGED,
    ) -> ChatContext:
        """Return a context with the same turns and other settings, such as a loaded one with a compactor.

        Args:
            window_size: see `ChatContext`; `None` is no limit.
            token_budget: see `ChatContext`; `None` is no limit.
            compactor: see `ChatContext`; `None` is none.
            count_tokens: see `ChatContext`; `None` is the estimate.

        Raises:
            UsageError: an argument has a wrong type.
        """
        known = self._settings
        new = type(self)(
            window_size=known.window_size if window_size is _UNCHANGED else window_size,
            token_budget=known.token_budget if token_budget is _UNCHANGED else token_budget,
            compactor=known.compactor if compactor is _UNCHANGED else compactor,
            count_tokens=known.counter.count if count_tokens is _UNCHANGED else count_tokens or estimate_tokens,
            pinned=known.pinned,
        )
        return _rebuild(type(self), new._settings, self._list_nodes())

    # -- looking back ---------------------------------------------------------------------------------

    def turns(self) -> list[Turn]:
        """Return all turns, oldest first."""
        return [node._turn for node in self._walk_nodes() if node._turn is not None][::-1]

    def list_turns(self) -> list[tuple[Turn, bool]]:
        """Return all turns, oldest first, each with whether it is pinned."""
        return [(turn, is_pinned) for turn, is_pinned in self._list_nodes() if turn is not None]

    def count_own_pins(self) -> int:
        """Return how many turns were pinned in the constructor; they are the first ones, and in `empty()`, too."""
        return len(self._settings.pinned)

    @property
    def has_own_functions(self) -> bool:
        """Whether a setting is a function: a compactor, or a count of tokens."""
        return self._settings.compactor is not None or self._settings.counter.count is not estimate_tokens

    def last_turn(self) -> Turn | None:
        """Return the last turn, or `None`."""
        return self._turn

    def _go_back(self, last: Turn) -> ChatContext:
        # The previous node, which shares its turns and pins.
        if last.output is None or last.input is None:
            return self._previous or self
        return self._make_node(self._previous, Turn(last.input), is_pinned=self._is_pinned)

    def view_for_generation(self) -> list[Turn]:
        """Return the turns that the next call will see, oldest first: those that didn't fail, within window and budget.

        A compactor that has to be awaited runs when a call is made, not here; turns that it hasn't compacted yet are
        returned as they are.
        """
        compaction, compactor = self._compaction, self._settings.compactor
        # Only for complete turns: a compactor reads texts, and this function may not wait.
        if compaction is not None and compactor is not None and not compaction.is_done and self._is_settled():
            compaction.make_now(compactor, self._list_compactable())
        return select(self._walk_turns(), self._pins, self._settings.get_limits())

    # -- for a call that is being made ----------------------------------------------------------------

    @property
    def is_immediate(self) -> bool:
        """Whether the view needs neither a compactor nor a user's token counter."""
        settings = self._settings
        has_own_count = settings.token_budget is not None and settings.counter.count is not estimate_tokens
        return settings.compactor is None and not has_own_count

    def list_awaited_turns(self) -> list[Turn]:
        """Return the turns that have to be complete before the view can be prepared, oldest first.

        Raises:
            UsageError: the compactor itself makes the call, so it would wait for itself.
        """
        if self.is_immediate:
            return self.view_for_generation()
        # Before the wait, which would otherwise never end.
        if self._settings.compactor is not None:
            refuse_own_call(self._settings.compactor)
        return select(self._walk_turns(), self._pins, WindowLimits())

    async def prepare_view(self) -> list[Turn]:
        """Run the compactor, and return the turns that a call sees.

        Raises:
            MelleaError: the compactor, or the count of tokens, failed.
        """
        if self.is_immediate:
            return self.view_for_generation()
        if self._compaction is not None and self._settings.compactor is not None:
            await self._compaction.make(self._settings.compactor, self._list_compactable())
        # A token counter is user code and may take long; it must not block the loop.
        return await run_in_thread(self.view_for_generation)

    def _is_settled(self) -> bool:
        return all(turn.output is None or turn.output.record.is_final for turn, _ in self._walk_turns())

    def _list_compactable(self) -> tuple[Turn, ...]:
        found = [turn for group, is_pinned in group_turns(self._walk_turns()) if not is_pinned for turn in group[::-1]]
        # Compactors get the turns oldest first.
        return tuple(found[::-1])

    def _walk_nodes(self) -> Iterator[ChatContext]:
        node: ChatContext | None = self
        while node is not None:
            yield node
            node = node._previous

    def _walk_turns(self) -> Iterator[tuple[Turn, bool]]:
        """Yield the turns, newest first, and whether each is pinned; compacted turns replace the original ones."""
        for node in self._walk_nodes():
            kept = node._compaction.turns if node._compaction is not None else None
            if kept is not None:
                yield from ((turn, False) for turn in reversed(kept))
                # Pins aren't part of the compacted turns and come before them; no call sees anything older than this
                # node.
                yield from ((turn, True) for turn in reversed(node._pins))
                return
            if node._turn is not None:
                yield node._turn, node._is_pinned

    # -- as a Python value ----------------------------------------------------------------------------

    def __copy__(self) -> ChatContext:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ChatContext:
        return self  # immutable from the outside

    def __reduce__(self) -> Any:
        # As a list: the linked list itself would exceed pickle's recursion.
        return _rebuild, (type(self), self._settings, self._list_nodes())

    def _list_nodes(self) -> list[tuple[Turn | None, bool]]:
        return [(node._turn, node._is_pinned) for node in self._walk_nodes()][::-1]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {self._depth} turn{'' if self._depth == 1 else 's'}>"


def _rebuild(kind: type[ChatContext], settings: _Settings, nodes: list[tuple[Turn | None, bool]]) -> ChatContext:
    context: ChatContext | None = None
    for turn, is_pinned in nodes:
        previous, context = context, kind.__new__(kind)
        context._begin(settings, previous, turn, is_pinned=is_pinned)
    return context if context is not None else kind()
