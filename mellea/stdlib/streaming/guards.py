"""Explains how a stream is read, where it is read in a way that can't work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mellea.core.entrance import short_errors
from mellea.errors import UsageTypeError

__all__ = ["AsyncOnly", "PlainOnly", "refuse_dict"]


class AsyncOnly:
    """Explains how to read an async stream, when it is read as a sync one or awaited.

    Attributes:
        verbs: how its sync and async verbs are written, and the verb that returns the whole answer.
    """

    __slots__ = ()

    verbs = ("m.stream(…)", "m.astream(…)", "m.ainstruct(…)")

    if not TYPE_CHECKING:  # type checkers reject this

        @short_errors
        def __await__(self) -> Any:
            _, streams, asks = self.verbs
            raise UsageTypeError(
                f"a stream isn't awaited: async for piece in {streams}; for the whole answer, await {asks}"
            )

        @short_errors
        def __enter__(self) -> Any:
            raise UsageTypeError(
                f"an async stream takes async with; in sync code, with {self.verbs[0]} as stream: for piece in stream"
            )

        def __exit__(self, *error: object) -> None:
            """Do nothing: no block is entered."""

        @short_errors
        def __getitem__(self, index: object) -> Any:  # what `for` tries where there is no __iter__
            plain, streams, _ = self.verbs
            raise UsageTypeError(
                f"an async stream is read by async for piece in {streams}; in sync code, for piece in {plain}; a web "
                f"application returns mellea.serve.text({streams})"
            )


def refuse_dict(stream: PlainOnly) -> None:
    """Refuse to make a dict, as a method `keys`: `dict(…)`, which FastAPI calls, would start the model."""
    raise UsageTypeError(
        f"a stream is no dict: for piece in {stream.verbs[0]}; a web application returns "
        f"mellea.serve.text({stream.verbs[0]})"
    )


class PlainOnly:
    """Explains how to read a sync stream, when it is read as an async one.

    Attributes:
        verbs: see `AsyncOnly`.
    """

    __slots__ = ()

    verbs = AsyncOnly.verbs

    if not TYPE_CHECKING:  # type checkers reject this
        # There is no __aiter__, which would have web frameworks take this for an async stream.
        @short_errors
        async def __aenter__(self) -> Any:
            raise UsageTypeError(
                f"a sync stream takes with and for; in async code, async for piece in {self.verbs[1]}, with or "
                "without async with"
            )

        async def __aexit__(self, *error: object) -> None:
            """Do nothing: no block is entered."""
