"""OpenAI's videos API: `videos`, `videos/{id}` and `videos/{id}/content`. No I/O.

Source: OpenAI's own client (openai-python 3.52, `resources/videos.py` and its types, 2026-11). A job is created
with a form, as in that client, even without a file. OpenAI's own models for it, `sora-2` and `sora-2-pro`,
were to be shut down on 2026-09-24; Azure, gateways and servers for open weights speak the same format. There is no call
that cancels a job: it can only be deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from pydantic_core import to_json

from mellea.backends.http.fields import find_int, find_text, read_text
from mellea.backends.http.outgoing import FormFile, JobCall
from mellea.backends.http.videos import VideoCodec, VideoJob, make_blocked_error, make_failed_error, read_prompt
from mellea.backends.openai.content import make_unsupported_error
from mellea.core.videos import VideoRequest
from mellea.errors import WireError

__all__ = ["OpenAIVideos"]

_SIZES = {"16:9": "1280x720", "9:16": "720x1280", "7:4": "1792x1024", "4:7": "1024x1792"}
_RUNNING = frozenset({"queued", "in_progress", "processing", "preprocessing"})
_DONE = frozenset({"completed", "succeeded"})
_BLOCKED = frozenset({"moderation_blocked", "content_policy_violation", "sentinel_block", "content_filter"})
_DELETED: Final = "video.deleted"


class OpenAIVideos(VideoCodec):
    """The jobs of OpenAI, and of services with the same interface.

    Args:
        model: the model.
    """

    def __init__(self, model: str) -> None:
        self._model = model

    def create(self, request: VideoRequest) -> JobCall:
        """Return the form that creates a job; an image in the prompt is its first frame."""
        prompt, images = read_prompt(request.messages, 1)
        fields: dict[str, Any] = {"model": self._model, "prompt": prompt}
        if request.seconds is not None:
            fields["seconds"] = str(request.seconds)
        if request.aspect_ratio is not None:
            fields["size"] = _find_size(request.aspect_ratio)
        files: list[FormFile] = []
        for image in images:
            if image.data is None:
                # A form can't express it, and the API accepts JSON if there is no file.
                payload = {**fields, "input_reference": {"image_url": image.url}, **request.options}
                return JobCall("POST", "videos", payload)
            name = image.filename or f"image.{image.essence.rpartition('/')[2]}"
            files.append(("input_reference", name, image.data, image.essence))
        form = {name: _encode_field(value) for name, value in {**fields, **request.options}.items()}
        return JobCall("POST", "videos", form, tuple(files))

    def look(self, id: str) -> JobCall:
        """Ask for the state of a job."""
        return JobCall("GET", _path(id))

    def cancel(self, id: str) -> JobCall:
        """Delete a job."""
        return JobCall("DELETE", _path(id))

    def read(self, body: Any) -> VideoJob:
        """Parse the state of a job."""
        if not isinstance(body, dict) or not (id := read_text(body, "id")):
            raise WireError(f"the provider sent {body!r:.100} instead of a video job")
        state = find_text(body, "status") or "unknown"
        is_over = state not in _RUNNING
        error = None
        if is_over and state not in _DONE:
            report = body.get("error") or {"message": f"it ended as {state!r}"}
            code = report.get("code") if isinstance(report, Mapping) else None
            is_blocked = code in _BLOCKED and isinstance(report, Mapping)
            error = (
                make_blocked_error([str(report.get("message") or code)]) if is_blocked else make_failed_error(report)
            )
        return VideoJob(
            id,
            state,
            is_over,
            find_int(body, "progress"),
            error,
            (f"{_path(id)}/content",) if state in _DONE else (),
            seconds=find_int(body, "seconds"),
            model=find_text(body, "model") or None,
        )


def _path(id: str) -> str:
    return f"videos/{quote(id, safe='')}"


def _find_size(aspect_ratio: str) -> str:
    if aspect_ratio not in _SIZES:
        known = ", ".join(map(repr, _SIZES))
        raise make_unsupported_error(
            f"aspect_ratio={aspect_ratio!r} has no size in the videos API", f"it knows {known}, or size="
        )
    return _SIZES[aspect_ratio]


def _encode_field(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value).decode()
