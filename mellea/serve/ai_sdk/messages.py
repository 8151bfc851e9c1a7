"""What the clients of the AI SDK send: a chat with all its messages, read as something that anybody may have written.

The history is the client's. Nothing in it is believed that a program could be harmed by: a client's system prompts are
dropped, and so are calls that have no result; files are taken by http(s) address, which nobody here fetches, or as
data of a limited size; truth values are truth values. An approval counts only with the server's signature, once there
is a secret; and it only ever answers a question that the server has kept (see `chat.py`).

Source: `ai` 7.0.173, `src/ui/convert-to-model-messages.ts` and `http-chat-transport.ts`; version 6 sends the same, and
version 5 no approvals.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mellea.core.blocks import Block, CBlock, FileBlock, ImageBlock, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.messages import Message
from mellea.core.surrogates import replace_surrogates_in
from mellea.errors import UsageError
from mellea.serve.ai_sdk.approvals import is_signed
from mellea.stdlib.agents.signing import find_secret

__all__ = ["LARGEST_BODY", "ChatRequest", "Reply", "chat_request"]

LARGEST_BODY = 16 * 2**20
"""Bytes of a request, unless a call sets another limit."""

_LONGEST_ID = 256
_LONGEST_URL = 8192
_DEEPEST = 100
"""Levels of nesting in a request."""

_DECLINED = "this call was not run: a person declined it"


@dataclass(frozen=True, slots=True)
class Reply:
    """A person's answer to a question about a call."""

    approved: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A client's request.

    Attributes:
        id: of the chat; the client's choice.
        messages: the conversation, in a form for models.
        trigger: whether a message was submitted or should be regenerated.
        message_id: the id of the assistant's message that the answer continues, if the history ends with one.
        replies: the answers to questions about calls, by the ids of the questions.
        results: the client's results for the last message's calls, by the ids of the calls.
        extra: further fields of the body.
    """

    id: str
    messages: tuple[Message, ...]
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = None
    replies: Mapping[str, Reply] = field(default_factory=dict)
    results: Mapping[str, ToolOutput] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


def chat_request(
    body: bytes | str | Mapping[str, Any],
    *,
    secret: str | bytes | None = None,
    trusts_system: bool = False,
    limit: int = LARGEST_BODY,
) -> ChatRequest:
    """Read a request from a client of the AI SDK, version 5 to 7.

    Args:
        body: the request's body, or its JSON.
        secret: the secret with which questions about approvals are signed, by default `MELLEA_SECRET`; with one, an
            answer without the right signature is rejected.
        trusts_system: whether to keep system prompts in the history.
        limit: the maximum size in bytes of the body, or of a file in it.

    Raises:
        UsageError: it isn't such a request, or can't be trusted. The message says where the problem is, without quoting
            the data.
    """
    data = body if isinstance(body, Mapping) else _parse(body, limit)
    # Before anything recursive touches it: the JSON may have been parsed elsewhere, without a limit.
    _check_depth(data)
    reader = _Reader(find_secret(secret), trusts_system, limit)
    return reader.read(replace_surrogates_in(dict(data)))


def _parse(body: bytes | str, limit: int) -> Mapping[str, Any]:
    if len(body) > limit:
        raise UsageError(f"the request has more than {limit:,} bytes")
    try:
        data = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # a number may also have too many digits
        raise UsageError("the request is not JSON, or nested too deeply") from None
    if not isinstance(data, dict):
        raise UsageError("the request is not a JSON object")
    return data


def _check_depth(data: Any) -> None:
    # Level by level, without recursion, which is what a deep value would break.
    level, depth = [data], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise UsageError("the request is not JSON, or nested too deeply")
        nested = [each.values() if isinstance(each, Mapping) else each for each in level if _is_nested(each)]
        level = [child for children in nested for child in children]


def _is_nested(value: Any) -> bool:
    return isinstance(value, (Mapping, list))


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _take(data: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    value = data.get(name)
    if type(value) is not kind:  # `True` isn't a whole number, and 1 isn't a bool
        raise UsageError(f"{where}.{name} is not of the type {kind.__name__}")
    return value


def _take_optional(data: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    return None if data.get(name) is None else _take(data, name, kind, where)


def _take_id(data: Mapping[str, Any], name: str, where: str) -> str:
    value: str = _take(data, name, str, where)
    if not 0 < len(value) <= _LONGEST_ID:
        raise UsageError(f"{where}.{name} is empty, or longer than {_LONGEST_ID} characters")
    return value


class _Reader:
    """Reads one request."""

    def __init__(self, secret: bytes | None, trusts_system: bool, limit: int) -> None:
        self._secret, self._trusts_system, self._limit = secret, trusts_system, limit
        self._replies: dict[str, Reply] = {}
        self._results: dict[str, ToolOutput] = {}
        self._asked: dict[str, Mapping[str, Any]] = {}  # questions to version 5, by their ids
        self._is_last = False

    def read(self, data: Mapping[str, Any]) -> ChatRequest:
        chat, trigger = _take_id(data, "id", "request"), data.get("trigger", "submit-message")
        if trigger not in ("submit-message", "regenerate-message"):
            raise UsageError("request.trigger is neither 'submit-message' nor 'regenerate-message'")
        given = _take(data, "messages", list, "request")
        messages: list[Message] = []
        for number, each in enumerate(given):
            self._is_last = number == len(given) - 1
            messages += self._read_message(each, f"request.messages[{number}]")
        self._read_approvals(data)
        # If the history ends with the assistant, its calls are being answered, and the answer continues in that
        # message.
        is_open = bool(given) and given[-1]["role"] == "assistant" and trigger == "submit-message"
        known = {"id", "messages", "trigger", "messageId", "approvals"}
        return ChatRequest(
            chat,
            tuple(messages),
            trigger,
            _take_id(given[-1], "id", "request.messages[-1]") if is_open else None,
            self._replies,
            self._results,
            {name: value for name, value in data.items() if name not in known},
        )

    def _read_message(self, data: Any, where: str) -> Iterable[Message]:
        if not isinstance(data, dict):
            raise UsageError(f"{where} is not an object")
        parts = _take(data, "parts", list, where)
        # Checked for all parts first, so the readers below can rely on a type.
        for number, part in enumerate(parts):
            if not (isinstance(part, dict) and isinstance(part.get("type"), str)):
                raise UsageError(f"{where}.parts[{number}] is not an object with a type")
        match data.get("role"):
            case "user":
                return self._read_content("user", parts, where)
            case "assistant":
                return self._read_assistant(parts, where)
            case "system":
                # A client that may write system prompts can change the program's behaviour, so the program has to opt
                # in.
                return self._read_content("system", parts, where) if self._trusts_system else ()
        raise UsageError(f"{where}.role should be 'user', 'assistant' or 'system'")

    def _read_content(self, role: str, parts: list[Any], where: str) -> Iterable[Message]:
        blocks: list[Block] = []
        for number, part in enumerate(parts):
            place = f"{where}.parts[{number}]"
            if part["type"] == "text":
                blocks.append(CBlock(_take(part, "text", str, place)))
            elif part["type"] == "file":
                blocks.append(self._read_file(part, place))
        return [Message(role, blocks)]

    # -- what the assistant is said to have said ------------------------------------------------------

    def _read_assistant(self, parts: list[Any], where: str) -> Iterable[Message]:
        messages: list[Message] = []
        blocks: list[Block] = []
        outputs: list[ToolOutput] = []

        # The results of a step directly follow its calls, as providers require.
        def close() -> None:
            if blocks:
                messages.append(Message("assistant", [*blocks]))
            messages.extend([Message("tool", output) for output in outputs])
            blocks.clear()
            outputs.clear()

        for number, part in enumerate(parts):
            place, kind = f"{where}.parts[{number}]", part["type"]
            if kind == "step-start":
                close()
            elif kind == "dynamic-tool" or kind.startswith("tool-"):
                if (output := self._read_tool(part, place, blocks.append)) is not None:
                    outputs.append(output)
            elif kind == "data-approval":
                self._note_question(part)
            elif (read := _BLOCKS.get(kind)) is not None:
                blocks.append(read(self, part, place))
        close()
        return messages

    def _read_text(self, part: Mapping[str, Any], where: str) -> Block:
        return CBlock(_take(part, "text", str, where))

    def _read_reasoning(self, part: Mapping[str, Any], where: str) -> Block:
        return ThinkingBlock(_take(part, "text", str, where), _read_signature(part, "providerMetadata"))

    def _read_file(self, part: Mapping[str, Any], where: str) -> Block:
        media_type, url = _take(part, "mediaType", str, where), _take(part, "url", str, where)
        filename = _take_optional(part, "filename", str, where)
        kind = ImageBlock if media_type.lower().startswith("image/") else FileBlock
        if url[:5].lower() == "data:":
            return kind(media_type=media_type, data=self._decode(url, where), filename=filename)
        # An address is passed to the provider and appears in logs, so no spaces, line ends or other schemes.
        is_plain = len(url) <= _LONGEST_URL and url.isprintable() and " " not in url
        if not (is_plain and url.lower().startswith(("https://", "http://"))):
            raise UsageError(f"{where}.url is neither an http(s) address nor a data: URL")
        return kind(media_type=media_type, url=url, filename=filename)

    def _decode(self, url: str, where: str) -> bytes:
        head, comma, payload = url.partition(",")
        if not (comma and head.lower().endswith(";base64")):
            raise UsageError(f"{where}.url is a data: URL that isn't base64")
        # Estimated from the text, before the memory for the bytes is taken.
        if len(payload) * 3 // 4 > self._limit:
            raise UsageError(f"{where}.url holds more than {self._limit:,} bytes")
        try:
            return base64.b64decode(payload, validate=True)
        except (ValueError, binascii.Error):
            raise UsageError(f"{where}.url is a data: URL that isn't base64") from None

    def _read_tool(self, part: Mapping[str, Any], where: str, add: Callable[[Block], None]) -> ToolOutput | None:
        """Take a call, and return its result; a call without one is left out."""
        state = _take(part, "state", str, where)
        call_id = _take_id(part, "toolCallId", where)
        name = part.get("toolName") if part["type"] == "dynamic-tool" else part["type"].removeprefix("tool-")
        if not (isinstance(name, str) and 0 < len(name) <= _LONGEST_ID):
            raise UsageError(f"{where} doesn't name its tool")
        if state not in _STATES:
            raise UsageError(f"{where}.state is unknown")
        reply = self._read_approval(part, call_id, name, where)
        if part.get("providerExecuted") is True:
            return None  # the provider would reject its results without their original form
        output = self._read_output(part, state, reply, call_id, name, where)
        if output is None:
            return None
        # Only the last message can answer open calls; results in older messages are history.
        if self._is_last and state.startswith("output-") and state != "output-denied":
            self._results[call_id] = output
        args = part.get("input")
        raw = json.dumps(args, ensure_ascii=False, separators=(",", ":"))
        is_valid = isinstance(args, dict)
        signature = _read_signature(part, "callProviderMetadata")
        add(ToolCall(call_id, name, args if isinstance(args, dict) else {}, raw, is_valid, signature=signature))
        return output

    def _read_output(
        self, part: Mapping[str, Any], state: str, reply: Reply | None, call_id: str, name: str, where: str
    ) -> ToolOutput | None:
        # A preliminary result is a tool's progress report.
        if state == "output-available" and part.get("preliminary") is not True:
            return ToolOutput(call_id, name, _load_output(part.get("output")))
        if state == "output-error":
            return ToolOutput(call_id, name, _take(part, "errorText", str, where), is_error=True)
        is_declined = state == "output-denied" or (state == "approval-responded" and reply and not reply.approved)
        if is_declined:
            return ToolOutput(call_id, name, (reply and reply.reason) or _DECLINED, is_error=True)
        return None

    # -- approvals ------------------------------------------------------------------------------------

    def _read_approval(self, part: Mapping[str, Any], call_id: str, name: str, where: str) -> Reply | None:
        approval = _take_optional(part, "approval", dict, where)
        if approval is None or approval.get("approved") is None:
            return None
        where = f"{where}.approval"
        asked = _take_id(approval, "id", where)
        reply = Reply(_take(approval, "approved", bool, where), _take_optional(approval, "reason", str, where))
        # Answers in older messages have already been used.
        if self._is_last and part["state"] == "approval-responded":
            self._check(approval.get("signature"), asked, call_id, name, part.get("input"), where)
            self._replies[asked] = reply
        return reply

    def _note_question(self, part: Mapping[str, Any]) -> None:
        data = part.get("data")
        if self._is_last and isinstance(data, dict) and isinstance(data.get("approvalId"), str):
            self._asked[data["approvalId"]] = data

    def _read_approvals(self, data: Mapping[str, Any]) -> None:
        """Read the answers of version 5, which has no field for them."""
        for number, each in enumerate(_take_optional(data, "approvals", list, "request") or ()):
            where = f"request.approvals[{number}]"
            if not isinstance(each, dict):
                raise UsageError(f"{where} is not an object")
            asked = _take_id(each, "id", where)
            question = self._asked.get(asked, {})
            call = (question.get("toolCallId"), question.get("toolName"), question.get("input"))
            self._check(question.get("signature"), asked, *call, where)
            reason = _take_optional(each, "reason", str, where)
            self._replies[asked] = Reply(_take(each, "approved", bool, where), reason)

    def _check(self, signature: Any, asked: str, call_id: Any, name: Any, tool_input: Any, where: str) -> None:
        # Without a secret anybody may answer, but only questions that the server has stored.
        if self._secret is None:
            return
        is_named = isinstance(call_id, str) and isinstance(name, str)
        if not (is_named and is_signed(self._secret, signature, asked, call_id, name, tool_input)):
            raise UsageError(f"{where} lacks the signature of this server")


_BLOCKS: Mapping[str, Callable[[_Reader, Mapping[str, Any], str], Block]] = {
    "text": _Reader._read_text,
    "reasoning": _Reader._read_reasoning,
    "file": _Reader._read_file,
}
"""What is kept; sources, data and the parts of newer versions are for people."""

_STATES = {
    "input-streaming",
    "input-available",
    "approval-requested",
    "approval-responded",
    "output-available",
    "output-error",
    "output-denied",
}


def _read_signature(part: Mapping[str, Any], name: str) -> str | None:
    match part.get(name):
        case {"mellea": {"signature": str(signature)}}:
            return signature
    return None


def _load_output(output: Any) -> Any:
    """Return the texts and files of a result that `dump_output` wrote, and any other value unchanged."""
    match output:
        case {"type": "content", "value": [*items], **rest} if not rest:
            blocks = [_load_block(item) for item in items]
            return output if None in blocks else blocks
    return output


def _load_block(item: Any) -> Block | None:
    match item:
        case {"type": "text", "text": str(text)}:
            return CBlock(text)
        case {"type": "file-data", "data": str(data), "mediaType": str(media_type)}:
            kind = ImageBlock if media_type.lower().startswith("image/") else FileBlock
            try:
                return kind(media_type=media_type, data=base64.b64decode(data, validate=True))
            except (ValueError, binascii.Error):
                return None
    return None
