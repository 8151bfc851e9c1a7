"""The embedded model as a backend: the engine's chunks as events, on any event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike, fspath
from typing import Any

import anyio
import anyio.to_thread

from mellea.backends.llama_cpp.call import EngineCall
from mellea.backends.llama_cpp.decode import Decoder, convert_error, decode_embeddings
from mellea.backends.llama_cpp.encode import MAX_TOKENS, OPTIONS, encode, encode_messages
from mellea.backends.llama_cpp.engine import (
    Engine,
    EngineSettings,
    check_installed,
    choose_threads,
    get_shared_engine,
)
from mellea.backends.llama_cpp.marks import JOINER, Marks, read_marks
from mellea.backends.llama_cpp.weights import (
    DEFAULT_MODEL,
    check_name,
    find_options,
    find_text_tokens,
    find_weights,
    name_of,
)
from mellea.core.backend import Backend, Capabilities, Request, check_supported
from mellea.core.events import Event, KeepAlive
from mellea.core.numbers import check_whole
from mellea.core.options import ModelOption, check_options
from mellea.core.results import EmbeddingResult, Probe
from mellea.errors import MelleaError

__all__ = ["LlamaCppBackend"]

_LOOK_SECONDS = 1.0
"""How often a call that waits for a slot, or for the model to load, emits a keep-alive."""

_CLOSE_SECONDS = 2.0


class LlamaCppBackend(Backend):
    """A model in this process.

    Nothing is loaded before the first request, and each model once in a process, however many backends
    use it. Requests beyond the number of slots wait for one. Loading takes about a second, during which the engine
    blocks all other threads. An answer ends after 1,024 tokens unless `max_tokens` says otherwise, one of the
    published model in plain text after 400.

    Args:
        model_id: a published model, or the path of a `.gguf` file.
        context_window: tokens of prompt and answer together, rounded to a multiple of 256 by the engine;
            each slot needs memory for it.
        parallel: slots, which are generations at the same time.
        threads: of the computation; by default all cores but one, at most four.
        stop_repetition: whether to end an answer that only repeats itself, as if it had reached its limit.
        verbose: whether llama.cpp writes its log to stderr.
        model_options: defaults for every request; they take precedence over those of the model itself (`MODELS` in
            `weights.py`).

    Raises:
        ConfigurationError: no model has this name.
        UsageError: an argument has a bad value.
    """

    name = "llama_cpp"
    aliases = ("embedded", "embedded_model", "local")
    model_patterns = ("smollm2*",)
    default_model = DEFAULT_MODEL
    capabilities = Capabilities(
        options=frozenset({*map(str, OPTIONS), str(ModelOption.STREAM)}),
        structured_output="native",
        prefill=True,
        embeddings=True,
    )

    def __init__(
        self,
        model_id: str | PathLike[str] = DEFAULT_MODEL,
        *,
        context_window: int = 4096,
        parallel: int = 4,
        threads: int | None = None,
        stop_repetition: bool = True,
        verbose: bool = False,
        model_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.model_id = check_name(fspath(model_id))
        super().__init__(model_options=find_options(self.model_id) | check_options(model_options))
        self.context_window = check_whole("context_window", context_window)
        self.parallel = check_whole("parallel", parallel)
        self.threads = choose_threads() if threads is None else check_whole("threads", threads)
        self.stop_repetition = stop_repetition
        self.verbose = verbose
        self._text_tokens = find_text_tokens(self.model_id) or MAX_TOKENS
        self._settings: EngineSettings | None = None
        self._marks = Marks(())

    async def run(self, request: Request) -> AsyncIterator[Event]:
        """Yield the model's events; closing the iterator frees the slot.

        Raises:
            UnsupportedError: the request asks for what the embedded model can't do.
            ConfigurationError: the engine or the weights are missing.
            BackendError: the engine rejected the request, or failed.
        """
        check_supported(self, request)
        # Before the engine is needed: unsupported requests fail without loading anything.
        payload = encode(request, self._text_tokens)
        engine = await self.engine()
        model = engine.settings.alias
        payload["messages"] = encode_messages(request, self._marks.guard)
        decoder = Decoder(
            model,
            is_json=request.output_schema is not None,
            drops_joiners=not _has_joiner(request, payload),
            stops_repetition=self.stop_repetition,
        )
        call = engine.submit(payload)
        try:
            while True:
                is_done = call.is_done  # before the chunks: what arrives in between is read next time
                chunks = await call.take(_LOOK_SECONDS)
                for chunk in chunks:
                    for event in decoder.feed(chunk):
                        yield event
                if is_done or decoder.is_over:
                    break
                # It waits for a slot, which may take longer than the deadline for silence.
                if not chunks and not call.is_started:
                    yield KeepAlive()
            if call.error is not None:
                raise convert_error(call.error, model) from call.error
            for event in decoder.close():
                yield event
        finally:
            await _stop(call)

    async def embed(self, texts: Sequence[str]) -> EmbeddingResult:
        """Embed each text as the mean over its tokens; chat models make poor vectors for search.

        The weights are loaded a second time for it.

        Raises:
            BadRequestError: a text is longer than the context window.
            ConfigurationError: the engine or the weights are missing.
        """
        chat = await self.engine()
        # A separate engine: one that embeds can't generate text.
        engine = get_shared_engine(replace(chat.settings, embeds=True, parallel=1))
        call = engine.submit({"input": [self._marks.guard(text) for text in texts]})
        try:
            answers: list[Any] = []
            while not call.is_done:
                answers += await call.take(_LOOK_SECONDS)
            answers += await call.take(0)
        finally:
            await _stop(call)
        if call.error is not None:
            raise convert_error(call.error, engine.settings.alias) from call.error
        return decode_embeddings(answers[0], engine.settings.alias, self.context_window)

    def check_access(self) -> None:
        """Check that the engine is installed; it isn't loaded.

        Raises:
            MissingExtraError: it isn't.
        """
        check_installed()

    async def probe(self) -> Probe:
        """Return whether the weights are on this machine; the engine isn't loaded. It raises nothing."""
        try:
            self.check_access()
            await anyio.to_thread.run_sync(find_weights, self.model_id)
        except MelleaError as error:
            return Probe(False, str(error))
        return Probe(True)

    async def engine(self) -> Engine:
        """Return the engine that serves this backend; it need not be loaded yet.

        Raises:
            ConfigurationError: the weights are missing, or this is a forked process.
        """
        if (settings := self._settings) is None:
            # It hashes a file of a hundred megabytes, which would block the loop.
            found: tuple[Marks, EngineSettings] = await anyio.to_thread.run_sync(self._find)
            self._marks, self._settings = found
            settings = found[1]
        return get_shared_engine(settings)

    def _find(self) -> tuple[Marks, EngineSettings]:
        path = find_weights(self.model_id)
        return read_marks(path), EngineSettings(
            path=str(path),
            alias=name_of(self.model_id, path),
            context_window=self.context_window,
            parallel=self.parallel,
            threads=self.threads,
            verbose=self.verbose,
        )


def _has_joiner(request: Request, payload: Mapping[str, Any]) -> bool:
    """Return whether the request itself contains the character that breaks marks, so that an answer may contain it,
    too."""
    texts = (message["content"] for message in encode_messages(request))
    return "\\u2060" in payload.get("grammar", "") or any(JOINER in text for text in texts)


async def _stop(call: EngineCall) -> None:
    call.cancel()
    if call.is_started and not call.is_done:
        # Also when cancelled: the slot is only free once the engine has returned.
        with anyio.CancelScope(shield=True):
            await call.wait_done(_CLOSE_SECONDS)
