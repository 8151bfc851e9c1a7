"""Requests whose result comes all at once, such as vectors, images or videos, rather than as events."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mellea.core.backend import Backend, Request
from mellea.core.blocking import blocking
from mellea.core.events import UsageEvent
from mellea.core.messages import Message
from mellea.core.results import EmbeddingResult, ImageResult
from mellea.core.runtime import Run, change_request, launch
from mellea.core.runtime.ledger import current_ledger
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib.call import finish
from mellea.stdlib.components import as_message, render_messages
from mellea.stdlib.verb import verb

__all__ = [
    "aembed",
    "agenerate_image",
    "agenerate_video",
    "embed",
    "generate_image",
    "generate_video",
    "request_once",
]

if TYPE_CHECKING:
    from mellea.core.progress import Progress
    from mellea.core.videos import VideoResult

R = TypeVar("R", EmbeddingResult, ImageResult, "VideoResult")


async def request_once(
    kind: str, backend: Backend, messages: Sequence[Message], ask: Callable[[Sequence[Message]], Awaitable[R]]
) -> R:
    """Make a request whose result comes all at once, such as vectors or images, as work of the session around.

    Args:
        kind: what observers see it as.
        backend: whom to ask.
        messages: what to ask, before hooks change it.
        ask: asks it.

    Raises:
        MelleaError: the request failed, or was cancelled.
    """

    async def work(run: Run) -> R:
        request = await change_request(run, Request(tuple(messages)))
        result = await ask(request.messages)
        if kind == "embedding" and result.usage is not None and result.usage.output_tokens is None:
            # Vectors have no tokens, so that none were written is known, also where providers don't say so.
            result = replace(result, usage=replace(result.usage, output_tokens=0))
        if result.usage is not None:
            # As an event, so that observers and prices find it where they look for every other request.
            run.emit([UsageEvent(result.usage)])
        if (ledger := current_ledger.get()) is not None:
            ledger.add(backend.name, result.model or backend.model_id, result.usage, asked=backend.model_id)
        return result

    run = launch(
        work=work, kind=kind, is_request=True, backend=backend.name, model=backend.model_id, server=backend.server
    )
    thunk: ModelOutputThunk[R] = ModelOutputThunk(run)
    await finish(thunk)
    return cast("R", thunk.parsed)


@verb("embed")
async def aembed(texts: str | Iterable[str], backend: Backend) -> EmbeddingResult:
    """Make a vector for each text, in order.

    Args:
        texts: one text, or several.
        backend: which model to ask, and how.

    Raises:
        UnsupportedError: the backend makes no embeddings.
        MelleaError: there is no text, or the provider failed.
    """
    found = [texts] if isinstance(texts, str) else list(texts) if isinstance(texts, Iterable) else []
    if not found or not all(isinstance(text, str) and text for text in found):
        raise UsageError(f"embed takes a non-empty string or a list of such strings, not {texts!r}")
    # As messages, so that hooks and observers see them like every other request.
    said = [Message("user", text) for text in found]
    return await request_once(
        "embedding", backend, said, lambda messages: backend.embed([message.text for message in messages])
    )


@verb("generate_image")
async def agenerate_image(
    prompt: Any, backend: Backend, *, n: int = 1, aspect_ratio: str | None = None, **options: Any
) -> ImageResult:
    """Have a model make images.

    Args:
        prompt: text, blocks, a `Message`, or a list of messages.
        backend: which model to ask, and how.
        n: how many images.
        aspect_ratio: the ratio of width to height, such as `"16:9"`.
        options: further options, by the provider's own names.

    Raises:
        UnsupportedError: the backend makes no images.
        MelleaError: an argument is wrong, or the provider failed.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise UsageError(f"n takes a whole number from 1, not {n!r}")
    _check_aspect_ratio(aspect_ratio)
    return await request_once(
        "image",
        backend,
        render_messages(as_message(prompt), backend.model_id),
        lambda messages: backend.generate_image(messages, n=n, aspect_ratio=aspect_ratio, **options),
    )


@verb("generate_video")
async def agenerate_video(
    prompt: Any,
    backend: Backend,
    *,
    seconds: int | None = None,
    aspect_ratio: str | None = None,
    to: str | Path | None = None,
    job_id: str | None = None,
    timeout: float | None = 1800.0,
    max_bytes: int = 2**30,
    progress: bool | Callable[[Progress], object] = True,
    **options: Any,
) -> VideoResult:
    """Generate a video: start a job at the provider, wait until it is done, and download the result.

    That takes minutes. If the wait is cancelled or times out, the job is cancelled at the provider.

    Args:
        prompt: text, blocks, a `Message`, or a list of messages; images in it are the start of the video.
        backend: which model to ask, and how.
        seconds: the length of the video; by default, the provider's default.
        aspect_ratio: the ratio of width to height, such as `"16:9"`.
        to: a file, or a folder, that the video is streamed into; otherwise it is held in memory.
        job_id: a job that was started earlier, to wait for it again or to download it again; then leave out the prompt.
        timeout: seconds until the job is cancelled; `None` waits forever.
        max_bytes: the largest size that the video may have.
        progress: whether a terminal shows progress (on stderr), or a function that is called with each `Progress`.
        options: further options, by the provider's own names.

    Raises:
        UnsupportedError: the backend makes no videos.
        MelleaError: an argument is wrong, or the provider failed, or its moderation blocked the video.
    """
    from mellea.core.videos import VideoRequest  # lazy: few programs make videos

    if (prompt is None) == (job_id is None):
        raise UsageError("generate_video takes either a prompt or job_id=, and exactly one of them")
    _check_video(seconds=seconds, timeout=timeout, max_bytes=max_bytes)
    _check_aspect_ratio(aspect_ratio)
    said = () if prompt is None else render_messages(as_message(prompt), backend.model_id)
    asked = VideoRequest(
        seconds=seconds,
        aspect_ratio=aspect_ratio,
        options=options,
        job_id=job_id,
        to=None if to is None else Path(to),
        timeout=timeout,
        max_bytes=max_bytes,
        progress=progress,
    )
    return await request_once(
        "video", backend, said, lambda messages: backend.generate_video(replace(asked, messages=tuple(messages)))
    )


embed = blocking(aembed)
generate_image = blocking(agenerate_image)
generate_video = blocking(agenerate_video)


def _check_aspect_ratio(aspect_ratio: Any) -> None:
    if aspect_ratio is not None and not re.fullmatch(r"[1-9]\d*:[1-9]\d*", str(aspect_ratio)):
        raise UsageError(f"aspect_ratio takes a string such as '16:9', not {aspect_ratio!r}")


def _check_video(seconds: Any, timeout: Any, max_bytes: Any) -> None:
    for name, value in {"seconds": seconds, "max_bytes": max_bytes}.items():
        if value is not None and (type(value) is not int or value < 1):
            raise UsageError(f"{name} takes a whole number from 1, not {value!r}")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0):
        raise UsageError(f"timeout takes a number of seconds, or None, not {timeout!r}")
