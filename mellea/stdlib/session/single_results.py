"""The verbs of a session with a single result: vectors, images, videos. They don't use the context."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Unpack

from mellea.core.backend import Backend
from mellea.core.blocking import blocking
from mellea.core.entrance import short_errors
from mellea.core.results import EmbeddingResult, ImageResult
from mellea.stdlib import single_result
from mellea.stdlib.verb import ImageArguments, VideoArguments, verb

if TYPE_CHECKING:
    from mellea.core.videos import VideoResult

__all__ = ["SingleResultVerbs"]


@short_errors
class SingleResultVerbs:
    """The verbs of a session for vectors, images and videos.

    Attributes:
        backend: which model to ask, and how.
    """

    backend: Backend

    @abstractmethod
    def registering(self) -> AbstractContextManager[None]:
        """Register what a `with` block launches as work of this session."""

    @verb("generate_image", ImageArguments, **single_result.IMAGE_WAYS)
    async def agenerate_image(self, prompt: Any, **arguments: Unpack[ImageArguments]) -> ImageResult:
        """Generate images; the context is neither read nor extended.

        Args:
            prompt: text, blocks, a `Message`, or a list of messages.
            n: how many images.
            aspect_ratio: the ratio of width to height, such as `"16:9"`.
            options: further options, by the provider's own names, such as `{"quality": "high"}`.

        Raises:
            UnsupportedError: the backend makes no images.
            MelleaError: an argument is wrong, or the provider failed.
        """
        with self.registering():
            return await single_result.agenerate_image(prompt, self.backend, **arguments)

    @verb("generate_video", VideoArguments, **single_result.VIDEO_WAYS)
    async def agenerate_video(self, prompt: Any = None, **arguments: Unpack[VideoArguments]) -> VideoResult:
        """Generate a video: start a job at the provider, wait until it is done, and download the result.

        That takes minutes. If the wait is cancelled or times out, the job is cancelled at the provider. The
        context is neither read nor extended.

        Args:
            prompt: text, blocks, a `Message`, or a list of messages; images in it are the start of the video.
            seconds: the length of the video; by default, the provider's default.
            aspect_ratio: the ratio of width to height, such as `"16:9"`.
            to: a file, or a folder, that the video is streamed into; otherwise it is held in memory.
            job_id: a job that was started earlier, to wait for it again or to download it again; then leave out the
                prompt.
            timeout: seconds until the job is cancelled; `None` waits forever.
            max_bytes: the largest size that the video may have.
            progress: whether to show progress on a terminal (on stderr) or in a notebook, or a function that is called
                with each `Progress`.
            options: further options, by the provider's own names, such as `{"quality": "high"}`.

        Raises:
            UnsupportedError: the backend makes no videos.
            MelleaError: an argument is wrong, or the provider failed, or its moderation blocked the video.
        """
        with self.registering():
            return await single_result.agenerate_video(prompt, self.backend, **arguments)

    @verb("embed")
    async def aembed(self, texts: str | Iterable[str]) -> EmbeddingResult:
        """Embed each text; the vectors are in the order of the texts.

        Args:
            texts: a text, or several.

        Raises:
            UnsupportedError: the backend makes no embeddings.
            MelleaError: there is no text, or the provider failed.
        """
        with self.registering():
            return await single_result.aembed(texts, self.backend)

    generate_image = blocking(agenerate_image)
    generate_video = blocking(agenerate_video)
    embed = blocking(aembed)
