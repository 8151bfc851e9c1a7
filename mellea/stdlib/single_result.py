"""Requests whose result comes all at once, such as vectors, images or videos, rather than as events."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from mellea.core.backend import Backend, Request
from mellea.core.blocking import blocking
from mellea.core.events import UsageEvent
from mellea.core.messages import Message
from mellea.core.numbers import check_number, check_whole
from mellea.core.results import EmbeddingResult, ImageResult
from mellea.core.runtime import Run, change_request, launch
from mellea.core.runtime.ledger import current_ledger
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib.call import finish
from mellea.stdlib.components import as_message, render_messages
from mellea.stdlib.verb import ImageArguments, VideoArguments, check_backend, verb

__all__ = [
    "IMAGE_WAYS",
    "VIDEO_WAYS",
    "aembed",
    "agenerate_image",
    "agenerate_video",
    "embed",
    "generate_image",
    "generate_video",
    "request_once",
]

if TYPE_CHECKING:
    from mellea.core.videos import VideoRequest, VideoResult

_VIDEO_SECONDS = 1800.0
"""How long a video job may take by default."""

_MEDIA_WAYS = {
    "format": "the result has its own `.media_type`; what the provider calls so goes into options={…}",
    "model_options": "options of images and videos have the provider's own names: options={…}",
    "size": "write aspect_ratio='16:9', or a size as the provider writes it: options={'size': …}",
}
IMAGE_WAYS: Mapping[str, str] = {**_MEDIA_WAYS, "num_images": "it is 'n' here: n=…"}
VIDEO_WAYS: Mapping[str, str] = {**_MEDIA_WAYS, "duration": "it is 'seconds' here: seconds=…"}
"""What to write for arguments that `generate_image` and `generate_video` don't take."""

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
    """Return an embedding, a vector, for each text, in order.

    Args:
        texts: one text, or several.
        backend: which model to ask, and how.

    Raises:
        UnsupportedError: the backend makes no embeddings.
        MelleaError: there is no text, or the provider failed.
    """
    check_backend(backend)
    found = [texts] if isinstance(texts, str) else list(texts) if isinstance(texts, Iterable) else []
    if not found or not all(isinstance(text, str) and text for text in found):
        raise UsageError(f"embed takes a non-empty string or a list of such strings, not {texts!r}")
    # As messages, so that hooks and observers see them like every other request.
    said = [Message("user", text) for text in found]
    return await request_once(
        "embedding", backend, said, lambda messages: backend.embed([message.text for message in messages])
    )


@verb("generate_image", ImageArguments, **IMAGE_WAYS)
async def agenerate_image(prompt: Any, backend: Backend, **arguments: Unpack[ImageArguments]) -> ImageResult:
    """Have a model make images.

    Args:
        prompt: text, blocks, a `Message`, or a list of messages.
        backend: which model to ask, and how.
        n: how many images.
        aspect_ratio: the ratio of width to height, such as `"16:9"`.
        options: further options, by the provider's own names, such as `{"quality": "high"}`.

    Raises:
        UnsupportedError: the backend makes no images.
        MelleaError: an argument is wrong, or the provider failed.
    """
    check_backend(backend)
    n, aspect_ratio = arguments.get("n", 1), _read_aspect_ratio(arguments)
    check_whole("n", n)
    options = _read_options(arguments)
    return await request_once(
        "image",
        backend,
        render_messages(as_message(prompt), backend.model_id),
        lambda messages: backend.generate_image(messages, n=n, aspect_ratio=aspect_ratio, options=options),
    )


@verb("generate_video", VideoArguments, **VIDEO_WAYS)
async def agenerate_video(prompt: Any, backend: Backend, **arguments: Unpack[VideoArguments]) -> VideoResult:
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
        progress: whether to show progress on a terminal (on stderr) or in a notebook, or a function that is called with
            each `Progress`.
        options: further options, by the provider's own names, such as `{"quality": "high"}`.

    Raises:
        UnsupportedError: the backend makes no videos.
        MelleaError: an argument is wrong, or the provider failed, or its moderation blocked the video.
    """
    from mellea.core.videos import MAX_VIDEO_BYTES, VideoRequest  # lazy: few programs make videos

    check_backend(backend)
    job_id, to = arguments.get("job_id"), arguments.get("to")
    if (prompt is None) == (job_id is None):
        raise UsageError("generate_video takes either a prompt or job_id=, and exactly one of them")
    if to is not None and not isinstance(to, (str, os.PathLike)):
        raise UsageError(f"to takes the path of a file or a folder, not {to!r}")
    asked = VideoRequest(
        seconds=arguments.get("seconds"),
        aspect_ratio=_read_aspect_ratio(arguments),
        options=_read_options(arguments),
        job_id=job_id,
        to=None if to is None else Path(to),
        timeout=arguments.get("timeout", _VIDEO_SECONDS),
        max_bytes=arguments.get("max_bytes", MAX_VIDEO_BYTES),
        progress=arguments.get("progress", True),
    )
    _check_video(asked)
    said = () if prompt is None else render_messages(as_message(prompt), backend.model_id)
    return await request_once(
        "video", backend, said, lambda messages: backend.generate_video(replace(asked, messages=tuple(messages)))
    )


embed = blocking(aembed)
generate_image = blocking(agenerate_image)
generate_video = blocking(agenerate_video)


def _read_aspect_ratio(arguments: ImageArguments | VideoArguments) -> str | None:
    aspect_ratio = arguments.get("aspect_ratio")
    if aspect_ratio is not None and not re.fullmatch(r"[1-9]\d*:[1-9]\d*", str(aspect_ratio)):
        raise UsageError(f"aspect_ratio takes a string such as '16:9', not {aspect_ratio!r}")
    return aspect_ratio


def _read_options(arguments: ImageArguments | VideoArguments) -> Mapping[str, Any]:
    options = arguments.get("options")
    if options is not None and not (isinstance(options, Mapping) and all(isinstance(name, str) for name in options)):
        raise UsageError(f"options takes a dict such as {{'quality': 'high'}}, not {options!r}")
    return options or {}


def _check_video(asked: VideoRequest) -> None:
    for name, value in {"seconds": asked.seconds, "max_bytes": asked.max_bytes}.items():
        check_whole(name, value, or_none=True)
    check_number("timeout", asked.timeout, above=0, of="seconds", or_none=True)
