"""The official clients talk to the server that our videos are tested with: it answers them, and they ask as we do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import mellea
from mellea.backends.http import video_jobs
from mellea.testing.video_server import VideoFaults, VideoServer, video_server
from tests.peers import Peer

openai = Peer("openai")
genai = Peer("google.genai")

pytestmark = pytest.mark.filterwarnings("ignore")  # of the clients: what they call deprecated, or an experiment


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[VideoServer]:
    monkeypatch.setattr(video_jobs, "FIRST_PAUSE", 0.01)
    with video_server() as running:
        yield running


@pytest.fixture
def client(server: VideoServer) -> Iterator[Any]:
    with openai.OpenAI(api_key="none", base_url=server.url, max_retries=0) as made:
        yield made


@pytest.fixture
def google(server: VideoServer) -> Iterator[Any]:
    from google.genai import types

    options = types.HttpOptions(base_url=server.root, api_version="v1beta")
    made = genai.Client(api_key="none", vertexai=False, http_options=options)
    yield made
    made.close()


def _ask(model: str, server: VideoServer, **arguments: Any) -> Any:
    url = server.url if model.startswith("openai") else server.gemini_url
    m = mellea.start_session(model, base_url=url, api_key="none")
    return m.generate_video(progress=False, **arguments)


@openai.needed
def test_openais_client_makes_a_video(server: VideoServer, client: Any) -> None:
    job = client.videos.create_and_poll(
        model="sora-2", prompt="A cat", seconds="8", size="1280x720", poll_interval_ms=10
    )
    assert (job.status, job.progress, job.seconds, job.error) == ("completed", 100, "8", None)
    assert client.videos.download_content(job.id).read() == server.video
    theirs = server.requests[0]
    ours = _ask("openai/sora-2", server, prompt="A cat", seconds=8, aspect_ratio="16:9")
    sent = next(each for each in server.requests if each.method == "POST" and each is not theirs)
    assert sent.fields == theirs.fields and sent.path == theirs.path
    assert [each.headers["content-type"].partition(";")[0] for each in (sent, theirs)] == ["multipart/form-data"] * 2
    # Each client fetches what the other one began.
    assert client.videos.download_content(ours.job_id).read() == server.video
    assert _ask("openai/sora-2", server, job_id=job.id).videos[0].data == server.video


@openai.needed
def test_openais_client_begins_with_an_image_as_we_do(server: VideoServer, client: Any) -> None:
    client.videos.create(model="sora-2", prompt="A cat", input_reference=("image.png", b"png", "image/png"))
    image = mellea.ImageBlock(data=b"png")
    _ask("openai/sora-2", server, prompt=mellea.user_message("A cat", image))
    first, second = (each.fields for each in server.requests if each.method == "POST")
    assert first == second


@openai.needed
def test_openais_client_sees_the_faults(server: VideoServer, client: Any) -> None:
    server.faults = VideoFaults(blocked="It shows a real person.")
    job = client.videos.create_and_poll(prompt="A cat", poll_interval_ms=10)
    assert (job.status, job.error.code) == ("failed", "moderation_blocked")
    assert client.videos.delete(job.id).deleted and server.ended == [job.id]
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(job.id)
    server.faults = VideoFaults(rate_limits=1)
    job = client.videos.create(prompt="A cat")
    with pytest.raises(openai.RateLimitError):
        client.videos.retrieve(job.id)
    server.faults = VideoFaults(is_expired=True)
    with pytest.raises(openai.NotFoundError):
        client.videos.download_content(job.id)


@genai.needed
def test_googles_client_makes_an_interaction(server: VideoServer, google: Any) -> None:
    wanted = {"type": "video", "delivery": "uri", "aspect_ratio": "16:9", "duration": "8s"}
    begun = google.interactions.create(
        model="gemini-omni-1.1-flash", input="A cat", response_modalities=["video"], response_format=wanted,
        background=True,
    )  # fmt: skip
    found = begun
    while found.status == "in_progress":
        found = google.interactions.get(begun.id)
    assert found.status == "completed" and found.output_video.uri == f"{server.gemini_url}/files/{begun.id}"
    assert found.usage.total_output_tokens == 57920
    assert google.files.download(file=f"files/{begun.id}") == server.video
    theirs = server.requests[0]
    ours = _ask("gemini/gemini-omni-1.1-flash", server, prompt="A cat", seconds=8, aspect_ratio="16:9")
    sent = [each for each in server.requests if each.method == "POST"][-1]
    assert (sent.path, sent.fields) == (theirs.path, theirs.fields)
    assert google.interactions.get(ours.job_id).status == "completed"
    assert _ask("gemini/gemini-omni-1.1-flash", server, job_id=begun.id).videos[0].data == server.video


@genai.needed
def test_googles_client_cancels_an_interaction(server: VideoServer, google: Any) -> None:
    begun = google.interactions.create(model="gemini-omni-1.1-flash", input="A cat", background=True)
    assert google.interactions.cancel(begun.id).status == "cancelled" and server.ended == [begun.id]


@genai.needed
@pytest.mark.parametrize("blocked", [None, "It shows a real person."])
def test_googles_client_reads_an_operation(blocked: str | None, server: VideoServer, google: Any) -> None:
    """It begins none any more on this interface (from version 3 on), but reads those that were begun."""
    from google.genai import types

    server.faults.blocked = blocked
    with pytest.raises(mellea.errors.DeadlineError):
        server.faults.never_ends, server.faults.can_cancel = True, False
        _ask("gemini/veo-3.1-generate-preview", server, prompt="A cat", timeout=0.2)
    server.faults.never_ends = False
    operation = types.GenerateVideosOperation.model_validate({"name": server.running[0]})
    found = google.operations.get(operation)
    assert found.done
    if blocked is not None:
        assert found.response.rai_media_filtered_reasons == [blocked]
        return
    (made,) = found.response.generated_videos
    assert made.video.uri.endswith(":download?alt=media")
    assert google.files.download(file="files/0001") == server.video
