"""The codec of a provider's video jobs, without I/O: how a job is started, polled, cancelled and read.

`video_jobs.py` drives them: it knows when to poll, how long to wait, and what to do when a caller is cancelled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mellea.backends.http.outgoing import JobCall
from mellea.backends.http.report import make_reported_error
from mellea.core.blocks import CBlock, ImageBlock
from mellea.core.events import Usage
from mellea.core.messages import Message
from mellea.core.videos import VideoRequest
from mellea.errors import BackendError, UnsupportedError, UsageError

__all__ = ["VideoCodec", "VideoJob", "make_blocked_error", "make_failed_error", "read_prompt"]


@dataclass(frozen=True, slots=True)
class VideoJob:
    """The state of a job.

    Attributes:
        id: the provider's id.
        state: the provider's word for it.
        is_over: whether nothing more will happen.
        percent: how much of it is done, from 0 to 100, if the provider reports it.
        error: why it made no video.
        places: where its videos are: paths relative to the base URL, or whole addresses.
        inline: its videos, if they are part of the response: media type and bytes.
        seconds: how long each video is, if the provider reports it.
        usage: the tokens, if the provider reports them.
        model: the model that works on it.
    """

    id: str
    state: str
    is_over: bool = False
    percent: float | None = None
    error: BackendError | None = None
    places: tuple[str, ...] = ()
    inline: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    seconds: float | None = None
    usage: Usage | None = None
    model: str | None = None


class VideoCodec(ABC):
    """A provider's jobs."""

    @abstractmethod
    def create(self, request: VideoRequest) -> JobCall:
        """Return the call that starts a job.

        Raises:
            UnsupportedError: the provider can't do what is asked for.
        """

    @abstractmethod
    def look(self, id: str) -> JobCall:
        """Return the call that asks for the state of a job."""

    @abstractmethod
    def cancel(self, id: str) -> JobCall:
        """Return the call that cancels a job and frees its resources."""

    @abstractmethod
    def read(self, body: Any) -> VideoJob:
        """Parse the state of a job.

        Raises:
            WireError: the body has an unknown form.
        """


def read_prompt(messages: Sequence[Message], most_images: int) -> tuple[str, tuple[ImageBlock, ...]]:
    """Return the text and the images of a prompt.

    Args:
        messages: the prompt.
        most_images: how many images the provider accepts.

    Raises:
        UnsupportedError: it contains something else, or too many images.
        UsageError: it has no text.
    """
    blocks = [block for message in messages for block in message.blocks]
    images = tuple(block for block in blocks if isinstance(block, ImageBlock))
    if len(images) + sum(isinstance(block, CBlock) for block in blocks) < len(blocks):
        raise UnsupportedError("a video is made of text and images; leave everything else out of the prompt")
    if len(images) > most_images:
        raise UnsupportedError(
            f"the prompt has {len(images)} images, and the model takes {most_images}; leave some out"
        )
    text = "\n\n".join([message.text for message in messages if message.text])
    if not text.strip():
        raise UsageError("generate_video takes a prompt, not an empty text")
    return text, images


def make_failed_error(report: Any) -> BackendError:
    """Return the error of a job that failed, in the provider's words."""
    found = make_reported_error(report)
    found.args = (str(found.args[0]).replace("the provider reports an error in its answer", "the video failed", 1),)
    return found


def make_blocked_error(reasons: Sequence[str]) -> BackendError:
    """Return the error of a job whose prompt or video the provider's moderation blocked."""
    said = "; ".join(dict.fromkeys(reason for reason in reasons if reason)) or "it gives no reason"
    return BackendError(f"the provider's moderation blocked the video: {said}; change the prompt")
