"""Short tracebacks: the frames of the program, without those of this package.

Rules:

- An error is shortened where it leaves for the program: in the functions that programs call (`entrance.py`), and in a
  reader's next step. There it is raised again with a bare `raise`, which adds no frame.
- Frames of this package are dropped, with those of the libraries that it called. What the program's own code
  called, such as a validator, stays.
- A cause is shown if it has frames of the program, or once if it is one line that the message doesn't contain. Other
  causes are kept as `__context__`, which isn't printed.
- `MELLEA_DEBUG=1` in the environment, or the logger "mellea" at DEBUG, leaves everything as it is.
"""

from __future__ import annotations

import logging
import os
import sys
from types import FrameType, TracebackType

__all__ = ["add_note", "is_debugging", "list_program_frames", "shorten"]

_OURS = __name__.partition(".")[0]

_LIBRARIES = sys.stdlib_module_names | {
    "anyio", "h11", "h2", "httpcore", "httpx", "jinja2", "outcome", "pydantic", "pydantic_core", "sniffio", "trio",
    "typer", "xllamacpp",
}  # fmt: skip

_LONGEST = 200
"""The longest text, in characters, of a cause that is shown without frames of the program."""

_log = logging.getLogger(_OURS)


def is_debugging() -> bool:
    """Whether errors keep all their frames and causes."""
    return os.environ.get("MELLEA_DEBUG", "0") not in ("", "0") or _log.isEnabledFor(logging.DEBUG)


def shorten(error: BaseException) -> None:
    """Drop the frames that aren't the program's from an error's traceback, and the causes that say nothing new.

    The end of an iteration stays as it is. A cancellation keeps its causes, by which its scope may know it; a notebook
    prints its frames when an `await` is interrupted.
    """
    if isinstance(error, (StopIteration, StopAsyncIteration, GeneratorExit)) or is_debugging():
        return
    if isinstance(error, (Exception, KeyboardInterrupt)):
        _shorten(error, may_be_bare=True)
    else:
        _set_frames(error)


def _shorten(error: BaseException, *, may_be_bare: bool) -> None:
    """Shorten an error and its causes.

    Args:
        error: what is raised, or a cause of it.
        may_be_bare: whether its next cause is shown without a frame of the program.
    """
    _set_frames(error)
    first = _next(error)
    # Causes may form a cycle if a program has set them itself.
    link, seen = first, {id(error)}
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        _set_frames(link)
        if link.__traceback__ is not None or (may_be_bare and link is first and _adds_something(link, error)):
            break
        link = _next(link)
    else:
        if first is not None:  # the same as `from None`
            _set(error, "__context__", first)
            _set(error, "__cause__", None)
        return
    if link is not first:
        _set(error, "__cause__", link)
    _drop_repeated_notes(link, error)
    # Only the nearest cause may be shown without a frame; a chain of bare causes would be hard to read.
    _shorten(link, may_be_bare=False)


def _next(error: BaseException) -> BaseException | None:
    """Return the cause that would be printed before an error."""
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _adds_something(cause: BaseException, error: BaseException) -> bool:
    """Whether a cause that no code of the program raised is shown: it is one line that the error doesn't contain."""
    text = _text_of(cause)
    is_short = len(text) <= _LONGEST and "\n" not in text
    return is_short and text not in _text_of(error) and not isinstance(cause, BaseExceptionGroup)


def _drop_repeated_notes(cause: BaseException, error: BaseException) -> None:
    """Remove the notes of a cause that the error itself has or contains."""
    notes = getattr(cause, "__notes__", None)
    if notes:
        texts = (_text_of(error), *getattr(error, "__notes__", ()))
        _set(cause, "__notes__", [note for note in notes if not any(str(note) in text for text in texts)])


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an error from the program, which may be a frozen dataclass."""
    if getattr(error, "__notes__", None) is None:
        _set(error, "__notes__", [])
    error.add_note(note)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an error that can't even be said, from the user's code
        return type(error).__name__


def _set(error: BaseException, name: str, value: object) -> None:
    BaseException.__setattr__(error, name, value)  # the error may be a frozen dataclass


def _set_frames(error: BaseException) -> None:
    BaseException.with_traceback(error, list_program_frames(error.__traceback__))


def list_program_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback without our frames and those of the libraries that we call."""
    kept: list[TracebackType] = []
    is_inside, entry = True, traceback
    while entry is not None:
        is_inside = _is_inside(entry.tb_frame, is_inside)
        if not is_inside:
            kept.append(entry)
        entry = entry.tb_next
    short: TracebackType | None = None
    for entry in reversed(kept):
        short = TracebackType(short, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return short


def _is_inside(frame: FrameType, is_inside: bool) -> bool:
    """Whether a frame belongs to this package or its libraries, and not to code of the program that was called back."""
    names = frame.f_globals
    package = str(names.get("__name__", "")).partition(".")[0]
    # A template's frame has the name of its file or no name.
    return package == _OURS or (is_inside and (package in _LIBRARIES or "__jinja_exception__" in names))
