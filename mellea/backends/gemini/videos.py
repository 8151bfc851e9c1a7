"""Videos by Gemini: Veo models by `predictLongRunning`, Gemini Omni models by the Interactions API. No I/O.

Sources: Google's own client (google-genai 3.4 for operations, files and interactions; 1.x for `predictLongRunning`,
which 3.x offers on Google's enterprise platform alone), 2026-11; TanStack/ai #886, which tried the Interactions API on
2026-07-01. Veo is being withdrawn from the developer API in favour of Omni; `list_models` says which models there are.

A video's address (`files/…`) describes the file; its bytes are behind `:download?alt=media`, as that client asks for
them. An operation tells no percentage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from mellea.backends.gemini.wire import Json, JsonObject, name_resource
from mellea.backends.http.fields import (
    decode_base64,
    find_int,
    find_list,
    find_mapping,
    find_mappings,
    find_text,
    read_text,
)
from mellea.backends.http.outgoing import JobCall
from mellea.backends.http.videos import VideoCodec, VideoJob, make_blocked_error, make_failed_error, read_prompt
from mellea.core.blocks import ImageBlock
from mellea.core.events import Usage
from mellea.core.videos import VideoRequest
from mellea.errors import BackendError, UnsupportedError, WireError

__all__ = ["OmniVideos", "VeoVideos", "find_video_codec"]

_MOST_IMAGES = 3
_OF_INSTANCE = frozenset({"lastFrame", "referenceImages", "video"})
"""Veo's options that go next to the prompt; all others are parameters."""

_RUNNING = frozenset({"queued", "in_progress"})


def find_video_codec(model: str) -> VideoCodec | None:
    """Return the codec of a model's video jobs; `None` if it makes no videos."""
    name = model.rpartition("/")[2]
    if name.startswith("veo"):
        return VeoVideos(model)
    return OmniVideos(model) if "omni" in name.split("-") else None


class VeoVideos(VideoCodec):
    """The operations of a Veo model.

    Args:
        model: the model.
    """

    def __init__(self, model: str) -> None:
        self._model = model

    def create(self, request: VideoRequest) -> JobCall:
        """Return the call that starts an operation; an image in the prompt is its first frame."""
        prompt, images = read_prompt(request.messages, 1)
        instance: JsonObject = {"prompt": prompt}
        if images:
            instance["image"] = {"bytesBase64Encoded": _data(images[0]), "mimeType": images[0].essence}
        parameters: JsonObject = {}
        if request.aspect_ratio is not None:
            parameters["aspectRatio"] = request.aspect_ratio
        if request.seconds is not None:
            parameters["durationSeconds"] = request.seconds
        for name, value in request.options.items():
            (instance if name in _OF_INSTANCE else parameters)[name] = value
        path = f"{quote(name_resource(self._model), safe='/')}:predictLongRunning"
        return JobCall("POST", path, {"instances": [instance], "parameters": parameters})

    def look(self, id: str) -> JobCall:
        """Ask for the state of an operation."""
        return JobCall("GET", quote(id, safe="/"))

    def cancel(self, id: str) -> JobCall:
        """Cancel an operation (google.longrunning); a server may not be able to."""
        return JobCall("POST", f"{quote(id, safe='/')}:cancel")

    def read(self, body: Json) -> VideoJob:
        """Parse the state of an operation."""
        if not isinstance(body, dict) or not (id := read_text(body, "name")):
            raise WireError(f"Gemini sent {body!r:.100} where an operation has to be")
        if body.get("done") is not True:
            return VideoJob(id, find_text(find_mapping(body, "metadata"), "state") or "in_progress")
        if isinstance(report := body.get("error"), Mapping):
            return VideoJob(id, "failed", True, error=make_failed_error(_with_status(report)))
        response = find_mapping(body, "response")
        # Some servers, such as the enterprise platform, leave out the inner object.
        made = find_mapping(response, "generateVideoResponse") or response
        videos = [find_mapping(each, "video") or each for each in find_mappings(made, "generatedSamples")]
        videos += find_mappings(made, "videos")
        reasons = [str(reason) for reason in find_list(made, "raiMediaFilteredReasons")]
        error = (
            make_blocked_error(reasons) if not videos and (reasons or find_int(made, "raiMediaFilteredCount")) else None
        )
        places, inline = _read_videos(videos)
        return VideoJob(id, "failed" if error else "done", True, 100.0, error, places, inline)


class OmniVideos(VideoCodec):
    """The interactions of a Gemini Omni model, in the background.

    Args:
        model: the model.
    """

    def __init__(self, model: str) -> None:
        self._model = model

    def create(self, request: VideoRequest) -> JobCall:
        """Return the call that starts an interaction."""
        prompt, images = read_prompt(request.messages, _MOST_IMAGES)
        said: Json = prompt
        if images:
            said = [{"type": "text", "text": prompt}]
            said += [{"type": "image", "data": _data(image), "mime_type": image.essence} for image in images]
        # As a file: inline, a video of some minutes would be in memory three times.
        wanted: JsonObject = {"type": "video", "delivery": "uri"}
        if request.aspect_ratio is not None:
            wanted["aspect_ratio"] = request.aspect_ratio
        if request.seconds is not None:
            wanted["duration"] = f"{request.seconds}s"
        payload = {
            "model": self._model.removeprefix("models/"),
            "input": said,
            "response_modalities": ["video"],
            "response_format": {**wanted, **request.options},
            "background": True,
        }
        return JobCall("POST", "interactions", payload)

    def look(self, id: str) -> JobCall:
        """Ask for the state of an interaction."""
        return JobCall("GET", _path(id))

    def cancel(self, id: str) -> JobCall:
        """Cancel an interaction."""
        return JobCall("POST", f"{_path(id)}/cancel")

    def read(self, body: Json) -> VideoJob:
        """Parse the state of an interaction."""
        if not isinstance(body, dict) or not (id := read_text(body, "id")):
            raise WireError(f"Gemini sent {body!r:.100} where an interaction has to be")
        state = find_text(body, "status") or "unknown"
        steps = find_mappings(body, "steps")
        made = [
            content
            for step in steps
            if find_text(step, "type") == "model_output"
            for content in find_mappings(step, "content")
        ]
        videos = [content for content in made if find_text(content, "type") == "video"]
        places, inline = _read_videos(videos)
        error = _find_error(body, steps, made, state) if state not in _RUNNING and not videos else None
        return VideoJob(
            id,
            state,
            state not in _RUNNING,
            100.0 if videos else None,
            error,
            places,
            inline,
            usage=_read_usage(find_mapping(body, "usage")),
            model=find_text(body, "model") or None,
        )


def _find_error(body: JsonObject, steps: list[JsonObject], made: list[JsonObject], state: str) -> BackendError | None:
    reports = [
        *find_mappings(body, "errors"),
        *(step["error"] for step in steps if isinstance(step.get("error"), dict)),
    ]
    said = " ".join(find_text(content, "text") for content in made).strip()
    if reports:
        code = str(reports[0].get("code", ""))
        message = find_text(reports[0], "message")
        is_blocked = "safety" in code.lower() or "blocked" in code.lower() or "prohibited" in code.lower()
        return make_blocked_error([message]) if is_blocked else make_failed_error(_with_status(reports[0]))
    if said:
        return make_blocked_error([said])  # the model explains in its text why it makes none
    return None if state == "completed" else make_failed_error({"message": f"it ended as {state!r}"})


def _read_videos(videos: list[JsonObject]) -> tuple[tuple[str, ...], tuple[tuple[str, bytes], ...]]:
    places: list[str] = []
    inline: list[tuple[str, bytes]] = []
    for video in videos:
        kind = next((text for name in ("mime_type", "mimeType", "encoding") if (text := find_text(video, name))), "")
        data = next(
            (text for name in ("data", "encodedVideo", "bytesBase64Encoded") if (text := find_text(video, name))), ""
        )
        if data:
            inline.append((kind or "video/mp4", decode_base64(data, "video")))
        elif place := find_text(video, "uri"):
            places.append(f"{place}:download?alt=media" if _is_file(place) else place)
    return tuple(places), tuple(inline)


def _is_file(place: str) -> bool:
    """Whether a URL is that of a file's metadata: it ends with `files/` and the file's name."""
    folder, name = ("", *place.split("/"))[-2:]
    return folder == "files" and bool(name) and not set(name) & set(":?#")


def _read_usage(usage: JsonObject) -> Usage | None:
    if not usage:
        return None
    return Usage(
        find_int(usage, "total_input_tokens"),
        find_int(usage, "total_output_tokens"),
        reasoning_tokens=find_int(usage, "total_thought_tokens"),
    )


def _with_status(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a google.rpc.Status with the name of its code, so that its kind is known."""
    names = {3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND", 7: "PERMISSION_DENIED",
             8: "RESOURCE_EXHAUSTED", 13: "INTERNAL", 14: "UNAVAILABLE", 16: "UNAUTHENTICATED"}  # fmt: skip
    code = report.get("code")
    return {**report, "status": names[code]} if code in names and "status" not in report else report


def _data(image: ImageBlock) -> str:
    if image.data is None:
        raise UnsupportedError(f"Gemini takes images for a video as bytes, not at {image.url!r}; fetch it first")
    return image.base64()


def _path(id: str) -> str:
    return f"interactions/{quote(id, safe='')}"
