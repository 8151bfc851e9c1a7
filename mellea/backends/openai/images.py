"""OpenAI's images API: a prompt in, images out. No I/O.

With images among the messages it is `images/edits`, which takes a form with the files in it (OpenAI, API reference,
"Create image edit", as of 2026-10); several are sent as `image[]`, one as `image`, as OpenAI's own client does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from mellea.backends.http.fields import decode_base64, find_int, find_mapping, find_text, read_mappings, read_text
from mellea.backends.openai.content import make_unsupported_error
from mellea.core.blocks import CBlock, ImageBlock
from mellea.core.events import Usage
from mellea.core.messages import Message, as_messages
from mellea.core.numbers import check_whole
from mellea.core.results import ImageResult
from mellea.errors import UsageError, WireError

__all__ = ["decode_images", "encode_images", "encode_inputs", "list_inputs"]

_SIZES = {"1:1": "1024x1024", "3:2": "1536x1024", "16:9": "1536x1024", "2:3": "1024x1536", "9:16": "1024x1536"}
_DALL_E_3_SIZES = {"1:1": "1024x1024", "16:9": "1792x1024", "9:16": "1024x1792"}


def encode_images(
    messages: str | Sequence[Message | Mapping[str, Any]],
    model_id: str,
    *,
    service: str = "openai",
    n: int = 1,
    aspect_ratio: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the payload of `images/generations`; the one of `images/edits` has the same fields, as texts.

    Args:
        messages: a text, or messages, whose texts are joined.
        model_id: the model.
        service: the service, for its names.
        n: how many images.
        aspect_ratio: such as `"16:9"`; OpenAI has three sizes, the nearest of which is used for the usual ratios.
        options: further options, by the provider's own names, such as `quality`.

    Raises:
        UnsupportedError: the aspect ratio is unknown to the model.
        UsageError: `n` is not a number from 1, or the prompt is empty.
    """
    check_whole("n", n)
    payload: dict[str, Any] = {"model": model_id, "prompt": _read_prompt(messages), "n": n}
    if aspect_ratio is not None:
        payload |= _encode_size(aspect_ratio, model_id, service)
    if model_id.rpartition("/")[2].startswith("dall-e") or service == "xai":
        payload["response_format"] = "b64_json"  # newer models always return base64, and reject the parameter
    return payload | dict(options or {})


def list_inputs(messages: str | Sequence[Message | Mapping[str, Any]]) -> list[ImageBlock]:
    """Return the images in a prompt.

    Raises:
        UnsupportedError: it contains something that is neither text nor image data.
    """
    blocks = [] if isinstance(messages, str) else [block for each in as_messages(messages) for block in each.blocks]
    images = [block for block in blocks if isinstance(block, ImageBlock) and block.data is not None]
    # Anything else would be silently lost.
    if len(images) + sum(isinstance(block, CBlock) for block in blocks) < len(blocks):
        raise make_unsupported_error(
            "OpenAI's images API takes text, and images as data",
            "give an image's bytes, or use the image_generation tool of api='responses', which takes addresses",
        )
    return images


def encode_inputs(payload: Mapping[str, Any], images: Sequence[ImageBlock]) -> tuple[dict[str, str], list[Any]]:
    """Return the fields and the files of the form that edits images."""
    # Older models, which accept only one image, know the plain name.
    field = "image" if len(images) == 1 else "image[]"
    files = []
    for number, image in enumerate(images, 1):
        name = image.filename or f"image_{number}.{image.essence.rpartition('/')[2]}"
        files.append((field, name, image.data, image.essence))
    return {name: _encode_field(value) for name, value in payload.items()}, files


def _encode_field(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value).decode()


def decode_images(body: Any, model_id: str) -> ImageResult:
    """Return the images of an answer.

    Raises:
        WireError: the answer has a wrong form.
    """
    if not isinstance(body, dict):
        raise WireError(f"the provider sent {body!r:.100} instead of an object with images")
    media_type = f"image/{find_text(body, 'output_format') or 'png'}"
    images = tuple(_read_image(each, media_type) for each in read_mappings(body, "data"))
    usage = find_mapping(body, "usage")
    counts = Usage(find_int(usage, "input_tokens"), find_int(usage, "output_tokens")) if usage else None
    return ImageResult(images, counts, find_text(body, "model") or model_id)


def _read_prompt(prompt: str | Sequence[Message | Mapping[str, Any]]) -> str:
    if isinstance(prompt, str):
        text = prompt
    else:
        text = "\n\n".join([message.text for message in as_messages(prompt) if message.text])
    if not text.strip():
        raise UsageError("generate_image takes a prompt, not an empty text")
    return text


def _encode_size(aspect_ratio: str, model_id: str, service: str) -> dict[str, str]:
    # Others accept the ratio itself; OpenAI only has sizes.
    if service not in ("openai", "azure", "compatible"):
        return {"aspect_ratio": aspect_ratio}
    sizes = _DALL_E_3_SIZES if model_id.startswith("dall-e-3") else _SIZES
    if aspect_ratio not in sizes:
        known = ", ".join(map(repr, sizes))
        raise make_unsupported_error(
            f"aspect_ratio={aspect_ratio!r} is unknown to {model_id!r}", f"it knows {known}, or size="
        )
    return {"size": sizes[aspect_ratio]}


def _read_image(image: dict[str, Any], media_type: str) -> ImageBlock:
    media_type = find_text(image, "mime_type") or media_type
    if data := read_text(image, "b64_json"):
        return ImageBlock(media_type, data=decode_base64(data, "b64_json"))
    if url := read_text(image, "url"):
        return ImageBlock(media_type, url=url)
    raise WireError("the provider sent an image without any data or address")
