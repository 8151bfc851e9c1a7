"""Videos: jobs that are begun, watched, ended and fetched, against a server that has the faults of the real ones."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import mellea
from mellea import errors
from mellea.backends.fallback import FallbackBackend
from mellea.backends.http import downloads, exchange, video_jobs
from mellea.core.blocks import FileBlock, ImageBlock
from mellea.core.events import Usage
from mellea.core.messages import user_message
from mellea.core.progress import Progress
from mellea.testing import ScriptedBackend
from mellea.testing.video_server import VideoFaults, VideoServer, video_server
from tests.waiting import cancel_once, until

KEY = "sk-planted-key-123456"
DIALECTS = ["openai/sora-2", "gemini/veo-3.1-generate-preview", "gemini/gemini-omni-1.1-flash"]

pytestmark = [pytest.mark.anyio, pytest.mark.one_loop]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_jobs, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(downloads, "_REPORT_SECONDS", 0.0)
    monkeypatch.setattr(exchange, "_FIRST_PAUSE", 0.01)


@pytest.fixture
def server() -> Iterator[VideoServer]:
    with video_server() as running:
        yield running


Session = Callable[..., mellea.MelleaSession]


@pytest.fixture
def session(server: VideoServer) -> Session:
    def start(model: str, **arguments: Any) -> mellea.MelleaSession:
        url = server.url if model.startswith("openai") else server.gemini_url
        return mellea.start_session(model, base_url=url, api_key=KEY, **arguments)

    return start


@pytest.mark.parametrize("model", DIALECTS)
async def test_a_video_is_asked_for_watched_and_fetched(model: str, server: VideoServer, session: Session) -> None:
    seen: list[Progress] = []
    made = await session(model).agenerate_video("A cat", seconds=8, aspect_ratio="16:9", progress=seen.append)
    (video,) = made.videos
    assert (video.data, video.media_type, video.seconds) == (server.video, "video/mp4", 8)
    assert made.model == model.partition("/")[2] and made.job_id == server.running[0]
    assert made.usage is not None and made.usage.video_seconds == 8
    states = [each.state for each in seen]
    assert set(states[:3]) <= {"queued", "in_progress"} and states[-1] == "fetching"
    assert seen[-1].fraction == 1.0
    if model.startswith("openai"):
        assert [round(each.fraction or 0, 2) for each in seen[:3]] == [0.0, 0.33, 0.66]
    keys = [KEY in str(request.headers) for request in server.requests]
    assert all(keys) and len(keys) == 5, "begun, looked at three times, fetched"


async def test_each_provider_is_asked_in_its_own_words(server: VideoServer, session: Session) -> None:
    prompt = user_message("A cat", ImageBlock("image/png", b"png"))
    options: Any = {"seconds": 4, "aspect_ratio": "9:16", "progress": False}
    await session(DIALECTS[0]).agenerate_video(prompt, **options, options={"quality": "high"})
    form = {"model": "sora-2", "prompt": "A cat", "seconds": "4", "size": "720x1280", "quality": "high"}
    assert server.requests[0].fields == {**form, "input_reference": b"png"}
    assert server.requests[0].headers["content-type"].startswith("multipart/form-data")
    server.requests.clear()
    await session(DIALECTS[1]).agenerate_video(
        prompt, **options, options={"negativePrompt": "dogs", "lastFrame": {"x": 1}}
    )
    image = {"bytesBase64Encoded": "cG5n", "mimeType": "image/png"}
    assert server.requests[0].fields == {
        "instances": [{"prompt": "A cat", "image": image, "lastFrame": {"x": 1}}],
        "parameters": {"aspectRatio": "9:16", "durationSeconds": 4, "negativePrompt": "dogs"},
    }
    server.requests.clear()
    await session(DIALECTS[2]).agenerate_video(prompt, **options, options={"resolution": "1080p"})
    said = [{"type": "text", "text": "A cat"}, {"type": "image", "data": "cG5n", "mime_type": "image/png"}]
    wanted = {"type": "video", "delivery": "uri", "aspect_ratio": "9:16", "duration": "4s", "resolution": "1080p"}
    assert server.requests[0].fields == {
        "model": "gemini-omni-1.1-flash",
        "input": said,
        "response_modalities": ["video"],
        "response_format": wanted,
        "background": True,
    }


async def test_a_form_without_a_file_is_one_all_the_same(server: VideoServer, session: Session) -> None:
    await session(DIALECTS[0]).agenerate_video("A cät", progress=False)
    assert server.requests[0].headers["content-type"].startswith("multipart/form-data")
    assert server.requests[0].fields == {"model": "sora-2", "prompt": "A cät"}


async def test_an_image_at_an_address_is_named(server: VideoServer, session: Session) -> None:
    prompt = user_message("A cat", ImageBlock(url="https://a.example/i.png"))
    await session(DIALECTS[0]).agenerate_video(prompt, seconds=4, progress=False)
    reference = {"image_url": "https://a.example/i.png"}
    sent = {"model": "sora-2", "prompt": "A cat", "seconds": "4", "input_reference": reference}
    assert server.requests[0].fields == sent
    with pytest.raises(errors.UnsupportedError, match="takes images for a video as bytes"):
        await session(DIALECTS[1]).agenerate_video(prompt, progress=False)


# -- into a file ------------------------------------------------------------------------------------------


async def test_a_video_is_streamed_into_a_file(server: VideoServer, session: Session, tmp_path: Path) -> None:
    target = tmp_path / "cat.mp4"
    target.write_bytes(b"an older one")
    made = await session(DIALECTS[0]).agenerate_video("A cat", to=str(target), progress=False)
    (video,) = made.videos
    assert (video.path, video.data) == (target, None)
    assert target.read_bytes() == video.read() == server.video
    assert [path.name for path in tmp_path.iterdir()] == ["cat.mp4"], "nothing is left beside it"
    copy = video.save(tmp_path / "copy.mp4")
    assert copy.read_bytes() == server.video and video.save(target) == target


async def test_a_folder_gets_a_file_named_by_the_job(server: VideoServer, session: Session, tmp_path: Path) -> None:
    made = await session(DIALECTS[1]).agenerate_video("A cat", to=tmp_path, progress=False)
    assert made.videos[0].path == tmp_path / "0001.mp4"


async def test_a_video_in_the_answer_itself_is_taken(server: VideoServer, session: Session, tmp_path: Path) -> None:
    server.faults.is_inline = True
    m = session(DIALECTS[2])
    assert (await m.agenerate_video("A cat", progress=False)).videos[0].data == server.video
    made = await m.agenerate_video("A cat", to=tmp_path / "cat.mp4", progress=False)
    assert (tmp_path / "cat.mp4").read_bytes() == made.videos[0].read() == server.video


async def test_nothing_is_begun_for_a_file_that_cant_be_written(server: VideoServer, session: Session) -> None:
    with pytest.raises(errors.UsageError, match=r"the folder of '.*' doesn't exist"):
        await session(DIALECTS[0]).agenerate_video("A cat", to="/no/such/place/cat.mp4", progress=False)
    assert not server.requests


@pytest.mark.parametrize("to", [None, "cat.mp4"])
async def test_a_video_may_only_be_so_large(
    to: str | None, server: VideoServer, session: Session, tmp_path: Path
) -> None:
    with pytest.raises(errors.WireError, match=r"larger than 1000 bytes.*max_bytes") as caught:
        await session(DIALECTS[0]).agenerate_video(
            "A cat", max_bytes=1000, to=None if to is None else tmp_path / to, progress=False
        )
    assert not list(tmp_path.iterdir())
    assert "generate_video(job_id='video_0001')" in caught.value.__notes__[-1], "it can still be fetched"


# -- connections that break --------------------------------------------------------------------------------


@pytest.mark.parametrize("to", [None, "cat.mp4"])
@pytest.mark.parametrize("has_ranges", [True, False])
async def test_a_download_that_breaks_goes_on(
    has_ranges: bool, to: str | None, server: VideoServer, session: Session, tmp_path: Path
) -> None:
    server.faults.cuts, server.faults.has_ranges = 1, has_ranges
    made = await session(DIALECTS[0]).agenerate_video("A cat", to=None if to is None else tmp_path / to, progress=False)
    assert made.videos[0].read() == server.video
    ranges = [each.headers.get("range") for each in server.requests if each.path.endswith("/content")]
    assert ranges[0] is None and len(ranges) == 2
    assert (ranges[1] or "").startswith("bytes=") == has_ranges


async def test_a_download_that_keeps_breaking_leaves_no_half_file(
    server: VideoServer, session: Session, tmp_path: Path
) -> None:
    server.faults.cuts = 99
    m = session(DIALECTS[0], retries=1)
    with pytest.raises(errors.InterruptedStreamError, match=r"broke after \d+ of 200000 bytes") as caught:
        await m.agenerate_video("A cat", to=tmp_path / "cat.mp4", progress=False)
    assert not list(tmp_path.iterdir())
    assert not server.ended, "it is done and paid for"
    server.faults.cuts = 0
    assert "job_id='video_0001'" in caught.value.__notes__[-1]
    again = await m.agenerate_video(job_id="video_0001", progress=False)
    assert again.videos[0].data == server.video and len(server.running) == 1


@pytest.mark.parametrize("model", DIALECTS)
async def test_a_video_that_has_expired_says_so(model: str, server: VideoServer, session: Session) -> None:
    server.faults.is_expired = True
    with pytest.raises(errors.NotFoundError, match="The video has expired") as caught:
        await session(model).agenerate_video("A cat", progress=False)
    assert "may have expired" in "".join(caught.value.__notes__)


# -- the key, and other servers -----------------------------------------------------------------------------


async def test_the_key_stays_with_its_server(server: VideoServer, session: Session) -> None:
    with video_server() as elsewhere:
        address = f"{elsewhere.root}/v1beta/files/x:download?alt=media&signature=abc"
        server.faults.place = address
        made = await session(DIALECTS[1]).agenerate_video("A cat", progress=False)
        assert made.videos[0].data == elsewhere.video
        server.faults.place, server.faults.redirect = None, address
        for model in DIALECTS:
            made = await session(model).agenerate_video("A cat", progress=False)
            assert made.videos[0].data == elsewhere.video
        assert len(elsewhere.requests) == 4
        for request in elsewhere.requests:
            assert request.path.endswith("signature=abc")
            assert KEY not in str(request.headers) and set(request.headers) <= {
                "accept", "accept-encoding", "connection", "host", "user-agent",
            }  # fmt: skip


async def test_a_file_that_another_server_refuses_says_that_it_got_no_key(
    server: VideoServer, session: Session
) -> None:
    server.faults.place = f"http://localhost:{server.root.rpartition(':')[2]}/v1beta/nowhere"
    with pytest.raises(errors.NotFoundError) as caught:
        await session(DIALECTS[1]).agenerate_video("A cat", progress=False)
    assert "on another server, which isn't sent the key" in "".join(caught.value.__notes__)
    assert KEY not in str(server.requests[-1].headers)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://a/b", "http://", "https://user:pw@h/x", "http://a b/"])
async def test_a_file_of_another_kind_is_not_fetched(place: str, server: VideoServer, session: Session) -> None:
    server.faults.place = place
    with pytest.raises(errors.WireError, match="not a valid http or https address"):
        await session(DIALECTS[1]).agenerate_video("A cat", progress=False)


# -- jobs that fail -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", DIALECTS)
async def test_a_job_that_fails_says_why(model: str, server: VideoServer, session: Session) -> None:
    server.faults.failure = ("internal_error", "The renderer caught fire.")
    with pytest.raises(errors.BackendError, match="the video failed: The renderer caught fire") as caught:
        await session(model).agenerate_video("A cat", progress=False)
    name = "compatible" if model.startswith("openai") else "gemini"  # a server at an address of its own
    assert (caught.value.backend, caught.value.model) == (name, model.partition("/")[2])
    assert not hasattr(caught.value, "__notes__") or "running" not in "".join(caught.value.__notes__)


@pytest.mark.parametrize("model", DIALECTS)
async def test_a_blocked_video_says_so(model: str, server: VideoServer, session: Session) -> None:
    server.faults.blocked = "It shows a real person."
    with pytest.raises(errors.BackendError, match="moderation blocked the video: It shows a real person") as caught:
        await session(model).agenerate_video("A cat", progress=False)
    assert not caught.value.is_retryable


@pytest.mark.parametrize(
    ("model", "id"),
    [(DIALECTS[0], "video_9"), (DIALECTS[1], "models/veo-3.1/operations/9"), (DIALECTS[2], "v1_9")],
)
async def test_a_job_that_nobody_knows_says_so(model: str, id: str, session: Session) -> None:
    with pytest.raises(errors.NotFoundError, match=r"No job found|nothing is at") as caught:
        await session(model).agenerate_video(job_id=id, progress=False)
    assert f"the provider has no job {id!r}" in caught.value.__notes__[0]


@pytest.mark.parametrize("id", ["../models", "a/../../x", "..", "a\nb"])
async def test_a_job_id_leads_nowhere_else(id: str, server: VideoServer, session: Session) -> None:
    for model in DIALECTS:
        with pytest.raises(errors.MelleaError):
            await session(model).agenerate_video(job_id=id, progress=False)
    assert all(
        request.path.startswith(("/v1/videos/", "/v1beta/interactions/", "/v1beta/a%0Ab"))
        for request in server.requests
    )


@pytest.mark.parametrize("model", DIALECTS)
async def test_a_rate_limit_doesnt_lose_a_job(model: str, server: VideoServer, session: Session) -> None:
    server.faults.rate_limits, server.faults.retry_after = 3, 0.1
    made = await session(model).agenerate_video("A cat", progress=False)
    assert made.videos[0].data == server.video
    assert len(server.running) == 1 and not server.ended


async def test_a_pause_that_is_asked_for_is_kept(server: VideoServer, session: Session) -> None:
    server.faults.rate_limits, server.faults.retry_after = 1, 0.5
    began = anyio.current_time()
    await session(DIALECTS[0]).agenerate_video("A cat", progress=False)
    assert anyio.current_time() - began >= 0.5


async def test_a_look_that_is_refused_leaves_the_job(server: VideoServer, session: Session) -> None:
    m = session(DIALECTS[0])

    def delete(progress: Progress) -> None:
        server._asked.clear()

    with pytest.raises(errors.NotFoundError) as caught:
        await m.agenerate_video("A cat", progress=delete)
    notes = "".join(caught.value.__notes__)
    assert "may still be running; generate_video(job_id='video_0001') goes on with it" in notes


# -- nobody waits any more ----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", DIALECTS)
async def test_a_deadline_ends_the_job(model: str, server: VideoServer, session: Session) -> None:
    server.faults.never_ends = True
    with pytest.raises(errors.DeadlineError, match=r"wasn't done within 0\.3 s .*was cancelled"):
        await session(model).agenerate_video("A cat", timeout=0.3, progress=False)
    assert len(server.ended) == 1 and not server.running


async def test_a_job_that_cant_be_ended_is_named(server: VideoServer, session: Session) -> None:
    server.faults.never_ends, server.faults.can_cancel = True, False
    with pytest.raises(errors.DeadlineError, match=r"the job 'models/.*/operations/0001' couldn't be cancelled"):
        await session(DIALECTS[1]).agenerate_video("A cat", timeout=0.3, progress=False)


@pytest.mark.parametrize("model", DIALECTS)
async def test_who_is_cancelled_ends_the_job(model: str, server: VideoServer, session: Session) -> None:
    server.faults.never_ends = True
    m = session(model)
    await cancel_once(lambda: len(server.requests) > 2, lambda: m.agenerate_video("A cat", progress=False))
    await until(lambda: server.ended)
    assert not server.running


async def test_who_is_cancelled_while_the_job_begins_ends_it_all_the_same(
    server: VideoServer, session: Session
) -> None:
    """Its id isn't known yet: the answer is waited for, and then the job is ended."""
    m = session(DIALECTS[0])
    await m.agenerate_video("A first one, so that the connection stands", progress=False)
    has_asked, may_answer = threading.Event(), threading.Event()

    def hold() -> None:
        has_asked.set()
        may_answer.wait(20)

    server.before_begin = hold
    async with anyio.create_task_group() as group:

        async def leave() -> None:
            await until(has_asked.is_set)
            group.cancel_scope.cancel()
            may_answer.set()

        group.start_soon(leave)
        await m.agenerate_video("A cat", progress=False)
    await until(lambda: server.ended == ["video_0002"])


async def test_a_session_that_is_left_ends_the_job(server: VideoServer, session: Session) -> None:
    server.faults.never_ends = True

    async def ask(m: mellea.MelleaSession) -> None:
        with pytest.raises(errors.GenerationCancelledError):
            await m.agenerate_video("A cat", progress=False)

    async with anyio.create_task_group() as group:
        with session(DIALECTS[0]) as m:
            group.start_soon(ask, m)
            await until(lambda: len(server.requests) > 2)
    await until(lambda: server.ended)


async def test_a_failing_function_for_progress_ends_the_job(server: VideoServer, session: Session) -> None:
    def fail(progress: Progress) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(errors.UsageError, match=r"given as progress= failed: ZeroDivisionError: mine") as caught:
        await session(DIALECTS[0]).agenerate_video("A cat", progress=fail)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert server.ended == ["video_0001"]


# -- as a verb -----------------------------------------------------------------------------------------------


def test_a_synchronous_program_waits(server: VideoServer, session: Session) -> None:
    assert session(DIALECTS[0]).generate_video("A cat", progress=False).videos[0].data == server.video
    found = mellea.mfuncs.generate_video("A cat", session(DIALECTS[0]).backend, progress=False)
    assert found.videos[0].data == server.video


async def test_a_price_of_a_second_gives_the_cost(server: VideoServer, session: Session) -> None:
    m = session(DIALECTS[0])
    assert (await m.agenerate_video("A cat", progress=False)).cost is None
    mellea.prices.set_prices({"compatible/sora-2": {"second": 0.1}})
    try:
        n = session(DIALECTS[0])
        made = await n.agenerate_video("A cat", seconds=8, progress=False)
        assert made.cost == pytest.approx(0.8) and n.cost == pytest.approx(0.8)
        assert made.usage == Usage(video_seconds=8.0)
    finally:
        mellea.prices.reset_prices()


async def test_backends_without_videos_say_who_has_them(session: Session) -> None:
    m = mellea.start_session(ScriptedBackend("x"))
    with pytest.raises(errors.UnsupportedError, match=r"doesn't support video generation; use a model of .*gemini"):
        await m.agenerate_video("A cat")
    with pytest.raises(errors.UnsupportedError, match="use one of Gemini's models for videos"):
        await session("gemini/gemini-3-flash-preview").agenerate_video("A cat")
    groq = mellea.start_session("groq/llama", api_key=KEY)
    with pytest.raises(errors.UnsupportedError, match="'groq' doesn't support video generation; these do: 'openai'"):
        await groq.agenerate_video("A cat")


async def test_what_cant_be_asked_for_is_refused_before_anything_is_sent(server: VideoServer, session: Session) -> None:
    m = session(DIALECTS[0])
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"prompt": None}, "either a prompt or job_id"),
        ({"prompt": "x", "job_id": "y"}, "either a prompt or job_id"),
        ({"prompt": "x", "seconds": 0}, "seconds takes a whole number from 1, or None, not 0"),
        ({"prompt": "x", "max_bytes": "1"}, "max_bytes takes a whole number from 1, or None, not '1'"),
        ({"prompt": "x", "timeout": -1}, "timeout takes a number of seconds above 0, or None, not -1"),
        ({"prompt": "x", "aspect_ratio": "wide"}, "aspect_ratio takes a string such as '16:9'"),
        ({"prompt": "x", "aspect_ratio": "5:4"}, "has no size in the videos API; it knows '16:9'"),
        ({"prompt": "x", "to": 5}, "to takes the path of a file or a folder, not 5"),
        ({"prompt": "x", "options": []}, "options takes a dict"),
        ({"prompt": "x", "progress": 3}, "progress takes True, False or a function"),
        ({"prompt": " "}, "the message is empty"),
        ({"prompt": user_message("x", FileBlock("text/plain", b"x"))}, "made of text and images"),
        ({"prompt": user_message("x", *[ImageBlock(data=b"x")] * 2)}, "2 images, and the model takes 1"),
    ]
    for arguments, message in wrong:
        with pytest.raises(errors.MelleaError, match=message):
            await m.agenerate_video(**arguments)
    assert not server.requests


async def test_a_chain_asks_the_first_that_can(server: VideoServer) -> None:
    m = mellea.MelleaSession(FallbackBackend([ScriptedBackend("x"), session_backend(server)]))
    made = await m.agenerate_video("A cat", progress=False)
    assert made.videos[0].data == server.video


def session_backend(server: VideoServer) -> Any:
    return mellea.get_backend("openai", "sora-2", base_url=server.url, api_key=KEY)


async def test_no_key_and_no_address_is_logged(
    server: VideoServer, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults = VideoFaults(cuts=1, rate_limits=1)
    with caplog.at_level(logging.DEBUG, logger="mellea"):
        await session(DIALECTS[1]).agenerate_video("A secret cat", progress=False)
    assert KEY not in caplog.text and "secret cat" not in caplog.text


async def test_a_job_leaves_nothing_behind(server: VideoServer, session: Session, tmp_path: Path) -> None:
    m = session(DIALECTS[0])
    await m.agenerate_video("A cat", to=tmp_path / "cat.mp4", progress=False)
    gc.collect()  # an open file, or an unfinished generator, is a warning, and that fails a test
