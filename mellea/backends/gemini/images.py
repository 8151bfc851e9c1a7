"""Images: from a Gemini model that answers with one, or from Imagen, which has its own method (`predict`)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence

from mellea.backends.gemini.decode import decode_whole
from mellea.backends.gemini.encode import encode
from mellea.backends.gemini.wire import Json, JsonObject
from mellea.core.accumulator import Accumulator
from mellea.core.backend import Request
from mellea.core.blocks import ImageBlock
from mellea.core.messages import Message
from mellea.core.results import ImageResult
from mellea.errors import BackendError, WireError

__all__ = ["decode_image", "decode_predictions", "encode_image", "encode_predictions", "is_imagen"]


def is_imagen(model: str) -> bool:
    """Whether a model uses `predict` instead of `generateContent`."""
    return model.rpartition("/")[2].startswith("imagen")


def encode_predictions(
    messages: Sequence[Message], n: int, aspect_ratio: str | None, options: Mapping[str, Json]
) -> JsonObject:
    """Return Imagen's payload, which has only the text of the messages."""
    parameters: JsonObject = {"sampleCount": n, **options}
    if aspect_ratio is not None:
        parameters["aspectRatio"] = aspect_ratio
    prompt = "\n\n".join(message.text for message in messages if message.text)
    return {"instances": [{"prompt": prompt}], "parameters": parameters}


def encode_image(
    messages: Sequence[Message], model: str, aspect_ratio: str | None, options: Mapping[str, Json]
) -> JsonObject:
    """Return the payload for one image by a Gemini model."""
    settings: JsonObject = dict(options)
    if aspect_ratio is not None:
        settings["aspectRatio"] = aspect_ratio
    config: JsonObject = {"responseModalities": ["IMAGE"]}
    if settings:
        config["imageConfig"] = settings
    # Encoded as for text, so that input images are encoded in one place.
    return {**encode(Request(tuple(messages)), model), "generationConfig": config}


def decode_predictions(body: Json, model: str) -> ImageResult:
    """Return Imagen's images.

    Raises:
        BackendError: there are none; the message says why, if Imagen does.
        WireError: the body is not a valid answer.
    """
    predictions = body.get("predictions", []) if isinstance(body, dict) else None
    if not isinstance(predictions, list) or not all(isinstance(item, dict) for item in predictions):
        raise WireError(f"Imagen's answer is not a list of predictions: {body!r:.80}", model=model)
    images = tuple(_read_image(item) for item in predictions if "bytesBase64Encoded" in item)
    if not images:
        # Each image has its own reason, usually the same one.
        reasons = {str(item["raiFilteredReason"]) for item in predictions if item.get("raiFilteredReason")}
        raise BackendError(f"Imagen made no image: {'; '.join(sorted(reasons)) or 'it gives no reason'}", model=model)
    return ImageResult(images, None, model)


def decode_image(body: Json, model: str) -> ImageResult:
    """Return the images in a Gemini model's answer.

    Raises:
        BackendError: there are none; the message has what the model said instead.
        WireError: the body is not a valid answer.
    """
    accumulator = Accumulator()
    accumulator.feed(decode_whole(body, model))
    made = accumulator.generation()
    images = tuple(file for file in made.files if isinstance(file, ImageBlock))
    if not images:
        said = f"; it says {made.text!r}" if made.text else ""
        raise BackendError(f"the model {model!r} made no image ({made.finish_reason}){said}", model=model)
    return ImageResult(images, made.usage, made.model)


def _read_image(prediction: JsonObject) -> ImageBlock:
    try:
        data = base64.b64decode(str(prediction["bytesBase64Encoded"]))
    except binascii.Error as error:
        raise WireError("the data of an image is not base64") from error
    return ImageBlock(str(prediction.get("mimeType") or "image/png"), data)
