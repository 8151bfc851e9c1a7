"""How a generation is displayed, while it runs and afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mellea.core.accumulator import Generation
from mellea.core.blocks import FileBlock, ToolCall
from mellea.core.card import Card, Code, Fold, Grid, Part, Prose, cut, show_error, show_value, write_value
from mellea.core.events import Usage
from mellea.core.rejections import AttemptLog, Rejection
from mellea.core.runtime import Record
from mellea.core.state import State

if TYPE_CHECKING:
    from mellea.core.structured.partials import PartialDecoder

__all__ = ["RunCard", "draw_unlaunched", "say_tokens"]

LONGEST_REASON = 300
"""How many characters are shown of the reason why an attempt was rejected."""


def draw_unlaunched(title: str) -> Card:
    """Return the card of a stream that nobody has begun to read, which launches nothing either."""
    way = "Nothing is sent before it is read: by a loop, or by show(stream) of mellea.notebook, ashow(stream) if async."
    return Card(title, "not launched", parts=[Prose(way)])


class RunCard:
    """Displays one generation, repeatedly; it reads no text twice.

    It only shows what has arrived: it is not a reader, so it doesn't wait and doesn't make the thunk computed. It
    holds the record and not the thunk, so a displayed thunk can still be dropped.

    Its title says what is being written: `Text`, `Person`, `list[Person]`. Each rejected attempt is a line, with its
    text collapsed.

    Args:
        run: the generation.
    """

    def __init__(self, run: Record) -> None:
        self._run = run
        self._decoder: PartialDecoder[Any] | None = None
        self._read = 0
        self._decoded = 0  # the attempt whose text the decoder reads
        self._log = AttemptLog()
        self._logged = 0  # how many events the log has seen

    @property
    def is_final(self) -> bool:
        """Whether it won't change any more."""
        return self._run.is_final

    def draw(self) -> Card:
        """Return the current card."""
        run = self._run
        is_final = run.is_final  # before the text: what arrives in between is shown next time
        # Before the text as well: the text of a later attempt is shown at most once as that of the one before.
        log = self._read_attempts() if run.is_composite else self._log
        so_far = run.so_far()
        parts: list[Part] = [_show_rejection(each, log) for each in log.rejections]
        if log.is_between and not is_final:
            # The text of the rejected attempt is in its line; until the next one begins there is no other.
            parts += [Prose(log.kept)] if log.kept else []
        else:
            parts += [Fold("thinking", so_far.thinking)] if so_far.thinking else []
            parts.append(self._show_result(so_far, log, is_final=is_final))
            parts += [_list_calls(so_far.tool_calls)] if so_far.tool_calls else []
            parts += [part for file in so_far.files for part in _show_file(file)]
        parts += show_error(run.error)
        return Card(self._name_value(so_far), run.state.value, self._list_facts(so_far, log), parts)

    def _read_attempts(self) -> AttemptLog:
        """Read the attempts as far as they have arrived."""
        # The limit first: at the end the list is replaced by a shorter one, with adjacent deltas joined.
        limit = self._run.limit
        events = self._run.events
        if limit is not None:
            self._log, self._logged = AttemptLog(), 0
        new = events[self._logged : limit]
        self._logged += len(new)
        self._log.feed(new)
        return self._log

    def _name_value(self, so_far: Generation) -> str:
        asked = self._run.format
        if asked is None:
            return "Tool calls" if so_far.tool_calls and not so_far.text else "Text"
        from mellea.core.structured.kinds import format_type  # lazy: plain text doesn't need it

        return asked.schema.name if isinstance(asked.kind, Mapping) else format_type(asked.kind)

    def _list_facts(self, so_far: Generation, log: AttemptLog) -> list[str]:
        facts = [so_far.model or self._run.model or "", say_tokens(self._run.usage())]
        if so_far.finish_reason not in (None, "stop", "tool_call"):
            facts.append(f"ended by {so_far.finish_reason}")
        sampling = self._run.sampling
        if sampling is not None and (len(sampling.attempts) > 1 or sampling.attempts[0].validations):
            met = "requirements met" if sampling.success else "requirements not met"
            facts.append(f"attempt {sampling.chosen + 1} of {len(sampling.attempts)}, {met}")
        elif sampling is None and log.rejections:
            facts.append(f"attempt {log.number}")
        return [fact for fact in facts if fact]

    def _show_result(self, so_far: Generation, log: AttemptLog, *, is_final: bool) -> Part:
        run = self._run
        if run.format is None:
            return Prose(so_far.text)
        if run.state is State.DONE:
            return show_value(run.parsed)
        # Steps start over in the middle of the text, which is shown as it is.
        if is_final or log.has_steps:
            return Code(so_far.text)
        return self._show_partial(so_far.text, log.number)

    def _show_partial(self, text: str, attempt: int) -> Part:
        from mellea.core.structured.partials import PartialDecoder  # lazy: plain text doesn't need it

        if attempt != self._decoded:
            self._decoded, self._decoder, self._read = attempt, None, 0
        decoder = self._decoder = self._decoder or PartialDecoder(self._run.format)
        decoder.feed(text[self._read :])
        self._read = len(text)
        while decoder.next() is not None:
            pass
        return show_value(decoder.data())


def _show_rejection(rejection: Rejection, log: AttemptLog) -> Fold:
    why = cut(" ".join(rejection.why.split()), LONGEST_REASON)
    # The best of the rejected attempts may be the result, whose text is shown anyway.
    text = "" if rejection.number == log.chosen else rejection.text
    return Fold(f"attempt {rejection.number} rejected: {why}", text)


def _show_file(file: FileBlock) -> Sequence[Part]:
    card = file._card_()
    return card.parts or [Prose(card.head())]


def _list_calls(calls: tuple[ToolCall, ...]) -> Grid:
    return Grid(("tool", "arguments"), [(call.tool_name, write_value(dict(call.tool_args))) for call in calls])


def say_tokens(usage: Usage | None) -> str:
    """Return how many tokens were used, as far as known."""
    if usage is None or usage.total_tokens is None:
        return ""
    return f"{_say(usage.input_tokens)} + {_say(usage.output_tokens)} tokens"


def _say(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"
