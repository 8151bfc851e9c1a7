"""Videos that a model makes: what is asked for, and what comes of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mellea.core.events import Usage
from mellea.core.messages import Message
from mellea.core.progress import ProgressOption
from mellea.errors import UsageError

__all__ = ["MAX_VIDEO_BYTES", "Video", "VideoRequest", "VideoResult", "open_part"]

MAX_VIDEO_BYTES = 2**30
"""How large one video may be by default."""


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """What a backend is asked for.

    Args:
        messages: the prompt, with images to start from if the model takes them.
        seconds: how long the video is to be; `None` leaves it to the provider.
        aspect_ratio: width to height, such as `"16:9"`.
        options: further options, by the provider's own names.
        job_id: a job that was begun before, which is waited for in place of a new one.
        to: the file, or the folder, that the video is streamed into; `None` for memory.
        timeout: seconds for everything; `None` is forever.
        max_bytes: how large one video may be.
        progress: whether a terminal shows how far the job is, or the function that is told.
    """

    messages: tuple[Message, ...] = ()
    seconds: int | None = None
    aspect_ratio: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    job_id: str | None = None
    to: Path | None = None
    timeout: float | None = None
    max_bytes: int = MAX_VIDEO_BYTES
    progress: ProgressOption = False


@dataclass(frozen=True, slots=True)
class Video:
    """A video that a model made.

    Args:
        media_type: such as `"video/mp4"`.
        data: the bytes; `None` if they were streamed into a file.
        path: that file; `None` if they are in memory.
        seconds: how long it is, as far as the provider says.
    """

    media_type: str = "video/mp4"
    data: bytes | None = field(default=None, repr=False)
    path: Path | None = None
    seconds: float | None = None

    def read(self) -> bytes:
        """Return the bytes, out of memory or out of the file.

        Raises:
            OSError: the file can't be read.
        """
        if self.data is not None:
            return self.data
        if self.path is None:
            raise UsageError("this Video has neither data nor a path")
        return self.path.read_bytes()

    def save(self, path: str | Path) -> Path:
        """Write the video to `path`, a file or a folder, and return where; an older file stays until it is complete.

        Raises:
            OSError: the file can't be written.
        """
        path = Path(path)
        if path.is_dir():
            path = path / ("video.mp4" if self.path is None else self.path.name)
        if self.path is not None and path.exists() and path.samefile(self.path):
            return path
        part = open_part(path)
        try:
            if self.path is not None and self.data is None:
                shutil.copyfile(self.path, part)
            else:
                part.write_bytes(self.read())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return path


@dataclass(frozen=True, slots=True)
class VideoResult:
    """What a job came to.

    Attributes:
        videos: each with its bytes, or its file.
        usage: the seconds of video, and the tokens, as far as the provider reports them.
        model: the provider's name of the model.
        job_id: the provider's name of the job; `generate_video(job_id=…)` fetches it again while the provider keeps it.
        cost: in US dollars, `None` if the price isn't known; `mellea.prices.set_prices` sets one for each second.
    """

    videos: tuple[Video, ...]
    usage: Usage | None = None
    model: str | None = None
    job_id: str | None = None
    cost: float | None = None


def open_part(path: Path) -> Path:
    """Make an empty file beside `path`, to be renamed to it once it is complete.

    Raises:
        OSError: the folder isn't there, or nothing can be written in it.
    """
    part = path.with_name(f"{path.name}.{os.urandom(4).hex()}.part")
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return part
