"""Generates a video: starts the provider's job, polls it, and downloads the result.

Rules:

- Starting a job isn't retried if the first attempt may have succeeded: each job costs money. It isn't interrupted
  either, since a job with an unknown id can't be cancelled: a cancelled caller waits up to 20 s for the response.
- While a job is running, a poll that fails with a retryable error is repeated until the time-out, since the job
  itself goes on. After ten failures in a row the error is raised, and the job left running.
- If the wait is cancelled or times out, or the caller's progress function fails, the job is cancelled at the
  provider. If it is already done, it stays: `job_id=` downloads it again.
"""

from __future__ import annotations

import logging
import string
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.lowlevel
import anyio.to_thread

from mellea.backends.http.downloads import Download, FileHost, fetch_file
from mellea.backends.http.exchange import LONGEST_PAUSE as LONGEST_ASKED_PAUSE
from mellea.backends.http.outgoing import JobCall
from mellea.backends.http.videos import VideoCodec, VideoJob
from mellea.core.events import Usage
from mellea.core.options import Deadlines
from mellea.core.prices import compute_cost
from mellea.core.progress import Reporter
from mellea.core.videos import Video, VideoRequest, VideoResult
from mellea.errors import (
    BackendError,
    DeadlineError,
    MelleaError,
    NotFoundError,
    OverloadedError,
    RateLimitError,
    UsageError,
)

__all__ = ["make_video"]

_log = logging.getLogger("mellea")

FIRST_PAUSE = 0.5
"""Seconds between the first two polls; each pause is longer than the one before it."""

LONGEST_PAUSE = 10.0
"""The longest pause between two polls, in seconds."""

_GROWTH = 1.5
_MOST_FAILURES = 10
_LONGEST_NAME = 100
_OF_NAMES = frozenset(string.ascii_letters + string.digits + "-_")
_BEGIN_SECONDS = 20.0
"""How long a cancelled call waits for the response that names the job."""

_END_SECONDS = 5.0
"""How long cancelling a job at the provider may take."""


class JobHost(FileHost, Protocol):
    """What a job needs from a backend."""

    name: str
    model_id: str

    async def make_call(self, call: JobCall, *, retries: int | None = None, deadlines: Deadlines = ...) -> Any:
        """Make a call about a job, and return the result."""


async def make_video(backend: JobHost, codec: VideoCodec, request: VideoRequest) -> VideoResult:
    """Generate a video.

    Raises:
        BackendError: the provider rejected, failed or blocked it, or it timed out.
        UsageError: the file can't be written.
    """
    if request.to is not None and not (request.to if request.to.is_dir() else request.to.parent).is_dir():
        raise UsageError(f"the folder of {str(request.to)!r} doesn't exist; make it first")
    with Reporter(f"video by {backend.model_id}", request.progress) as reporter:
        work = _Work(backend, codec, request, reporter)
        with anyio.move_on_after(request.timeout):
            return await work.run()
        raise work.make_overdue_error()


class _Work:
    """One job, from its start to the files that it made."""

    def __init__(self, backend: JobHost, codec: VideoCodec, request: VideoRequest, reporter: Reporter) -> None:
        self._backend, self._codec, self._request, self._reporter = backend, codec, request, reporter
        self._job: VideoJob | None = None
        self._fate = ""  # the outcome of a job that isn't awaited any more

    async def run(self) -> VideoResult:
        try:
            job = await self._begin() if self._request.job_id is None else await self._look(self._request.job_id)
            job = await self._follow(job)
        except BackendError as error:
            self._describe(error)
            raise
        except BaseException:
            # Cancelled, timed out, interrupted, or the caller's function failed: nothing waits any more.
            await self._end()
            raise
        try:
            return await self._fetch(job)
        except MelleaError as error:
            error.add_note(f"the job {job.id!r} is done; generate_video(job_id={job.id!r}) tries to fetch it again")
            raise

    def make_overdue_error(self) -> DeadlineError:
        """Return the error for a job that took too long."""
        job, seconds = self._job, self._request.timeout
        if job is None:
            return DeadlineError(f"the job for the video wasn't started within {seconds:g} s", **self._fields())
        if not self._fate:
            return DeadlineError(
                f"the video was done, but not fetched within {seconds:g} s; "
                f"generate_video(job_id={job.id!r}) fetches it",
                **self._fields(),
            )
        done = "" if job.percent is None else f", {job.percent:g} % done"
        return DeadlineError(
            f"the video wasn't done within {seconds:g} s (it was {job.state!r}{done}); {self._fate}", **self._fields()
        )

    # -- the job ----------------------------------------------------------------------------------------

    async def _begin(self) -> VideoJob:
        call = self._codec.create(self._request)
        attempt = 0
        while True:
            try:
                return await self._create(call)
            except (RateLimitError, OverloadedError) as error:
                # Rejected, so nothing was started. Other failures may have started it.
                pause = _pause_of(error, 2.0**attempt)
                if attempt == self._backend.retries or not error.is_retryable or pause > LONGEST_ASKED_PAUSE:
                    raise
            attempt += 1
            await anyio.sleep(pause)

    async def _create(self, call: JobCall) -> VideoJob:
        """Make the call that starts the job; a cancelled caller still gets the job's id, if possible."""
        failures: list[BaseException] = []
        shielded, is_done = anyio.CancelScope(shield=True), anyio.Event()

        async def send() -> None:
            with shielded:
                try:
                    self._job = self._codec.read(await self._send(call))
                except MelleaError as error:
                    failures.append(error)
            is_done.set()

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            try:
                await is_done.wait()
            finally:  # limited from here on, if this wait was cancelled
                shielded.deadline = anyio.current_time() + _BEGIN_SECONDS
        try:
            if failures:
                raise failures[0]
        finally:
            failures.clear()  # an error stored here would keep itself alive through its traceback
        await anyio.lowlevel.checkpoint()
        if self._job is None:
            raise DeadlineError("the job for the video wasn't started", **self._fields())
        return self._job

    async def _look(self, id: str) -> VideoJob:
        try:
            self._job = self._codec.read(await self._send(self._codec.look(id)))
        except NotFoundError as error:
            error.add_note(f"the provider has no job {id!r}: it was deleted, has expired, or is another account's")
            raise
        return self._job

    async def _follow(self, job: VideoJob) -> VideoJob:
        pause, failures = FIRST_PAUSE, 0
        while not job.is_over:
            self._reporter.report(job.percent or 0.0, total=None if job.percent is None else 100.0, state=job.state)
            await anyio.sleep(pause)
            pause = min(pause * _GROWTH, LONGEST_PAUSE)
            try:
                job, failures = await self._look(job.id), 0
            except BackendError as error:
                failures += 1
                if not error.is_retryable or failures > _MOST_FAILURES:
                    raise
                _log.info("polling the job %s failed: %s", job.id, error)
                await anyio.sleep(_pause_of(error, pause))
        if job.error is not None:
            raise job.error
        if not job.places and not job.inline:
            raise BackendError(f"the job {job.id!r} ended as {job.state!r}, without a video")
        return job

    async def _end(self) -> None:
        """Cancel the job at the provider, in any state of the task."""
        job = self._job
        if job is None or job.is_over:
            return
        self._fate = f"the provider was asked to cancel the job {job.id!r}, and didn't answer"
        with anyio.CancelScope(shield=True), anyio.move_on_after(_END_SECONDS):
            try:
                await self._send(replace(self._codec.cancel(job.id), wants="bytes"))
                self._fate = f"the job {job.id!r} was cancelled"
            except MelleaError as error:
                self._fate = f"the job {job.id!r} couldn't be cancelled ({error}) and may cost money"
        _log.info("a video that nobody waits for any more: %s", self._fate)

    async def _send(self, call: JobCall) -> Any:
        return await self._backend.make_call(call, retries=0, deadlines=Deadlines())

    # -- the result -----------------------------------------------------------------------------------

    async def _fetch(self, job: VideoJob) -> VideoResult:
        count = len(job.places) + len(job.inline)
        length = job.seconds if job.seconds is not None else self._request.seconds
        targets = [self._find_target(job, number, count) for number in range(count)]
        videos = []
        for (media_type, data), to in zip(job.inline, targets, strict=False):
            made = Video(media_type, data, seconds=length)
            if to is not None:
                made = Video(media_type, path=await anyio.to_thread.run_sync(made.save, to), seconds=length)
            videos.append(made)
        for place, to in zip(job.places, targets[len(job.inline) :], strict=True):
            found = await self._download(place, to)
            videos.append(Video(found.media_type, found.data, found.path, length))
        seconds = None if length is None else float(length * count)
        usage = None if seconds is None else Usage(video_seconds=seconds)
        if job.usage is not None:
            usage = job.usage if usage is None else job.usage.merge(usage)
        asked = self._backend.model_id
        model = job.model or asked
        cost = compute_cost(usage, self._backend.name, model, asked=asked)
        return VideoResult(tuple(videos), usage, model, job.id, cost)

    async def _download(self, place: str, to: Path | None) -> Download:
        try:
            return await fetch_file(
                self._backend, place, to=to, max_bytes=self._request.max_bytes, report=self._report_bytes
            )
        except NotFoundError as error:
            error.add_note("the provider keeps videos for a short time only: this one may have expired")
            raise

    def _report_bytes(self, done: int, total: int | None) -> None:
        self._reporter.report(done, total=total, state="fetching")

    def _find_target(self, job: VideoJob, number: int, count: int) -> Path | None:
        to = self._request.to
        if to is None:
            return None
        if to.is_dir():
            # The provider chooses the id: only use characters that can't leave the folder.
            letters = [letter for letter in job.id.rpartition("/")[2] if letter in _OF_NAMES]
            to = to / f"{''.join(letters)[:_LONGEST_NAME] or 'video'}.mp4"
        return to if count == 1 else to.with_name(f"{to.stem}-{number + 1}{to.suffix}")

    def _describe(self, error: BackendError) -> None:
        error.backend = error.backend or self._backend.name
        error.model = error.model or self._backend.model_id
        if self._job is not None and not self._job.is_over:
            error.add_note(
                f"the job {self._job.id!r} may still be running; "
                f"generate_video(job_id={self._job.id!r}) goes on with it"
            )

    def _fields(self) -> Any:
        return {"backend": self._backend.name, "model": self._backend.model_id}


def _pause_of(error: BackendError, otherwise: float) -> float:
    asked = error.retry_after if isinstance(error, RateLimitError) else None
    return otherwise if asked is None else asked
