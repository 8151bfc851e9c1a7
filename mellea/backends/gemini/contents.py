"""Encodes messages as Gemini's `contents`: turns of the user and of the model, made of parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mellea.backends.gemini.wire import (
    CODE_EXECUTION,
    NO_SIGNATURE,
    SIGNATURE,
    SIGNATURE_OF_LAST,
    Json,
    JsonObject,
    find_generation,
)
from mellea.backends.http.call_ids import fit_ids
from mellea.backends.http.fields import make_jsonable
from mellea.core.backend import Request
from mellea.core.blocks import CBlock, FileBlock, ThinkingBlock, ToolCall, ToolOutput
from mellea.core.messages import Message, has_calls

__all__ = ["encode_contents"]


def encode_contents(request: Request, model: str) -> list[JsonObject]:
    """Return the turns of a conversation; system messages are encoded elsewhere."""
    messages = fit_ids(request.messages) if has_calls(request.messages) else request.messages
    names = {
        block.tool_call_id: block.tool_name
        for message in messages
        for block in message.blocks
        if isinstance(block, ToolCall)
    }
    is_new = (find_generation(model) or 3) >= 3
    turns: list[JsonObject] = []
    last_role = ""
    for message in messages:
        if message.role == "system":
            continue
        if message.role == "assistant":
            parts = _encode_model_turn(message, is_new)
        else:
            parts = [part for block in message.blocks for part in _encode_user_block(block, names, takes_files=is_new)]
        if message.role == last_role == "tool":
            turns[-1]["parts"] += parts  # the results of parallel calls have to be in one turn
            turns[-1]["parts"].sort(key=lambda part: "functionResponse" not in part)
        elif parts:
            turns.append({"role": "model" if message.role == "assistant" else "user", "parts": parts})
            last_role = message.role
    return turns


def _encode_user_block(block: object, names: Mapping[str, str], *, takes_files: bool) -> Iterator[JsonObject]:
    if isinstance(block, CBlock):
        yield {"text": block.value}
    elif isinstance(block, FileBlock):
        yield _encode_file(block)
    elif isinstance(block, ToolOutput):
        # Models before generation 3 take files next to a result, not inside it.
        files = [_encode_file(file) for file in block.files]
        yield _encode_function_response(block, names, files if takes_files else [])
        yield from () if takes_files else files


def _encode_function_response(output: ToolOutput, names: Mapping[str, str], files: list[JsonObject]) -> JsonObject:
    texts = [part.value for part in output.parts if isinstance(part, CBlock)]
    # Sent as JSON, which Gemini reads better than its text.
    result: Json = make_jsonable(output.result) if output.is_value else texts[0] if len(texts) == 1 else texts
    response: JsonObject = {
        "name": output.tool_name or names.get(output.tool_call_id, ""),
        "response": {"error" if output.is_error else "output": result},
    }
    if output.tool_call_id:
        response["id"] = output.tool_call_id
    if files:
        response["parts"] = files
    return {"functionResponse": response}


@dataclass(slots=True)
class _ModelTurn:
    """Return the parts of a model's turn, with their signatures restored."""

    must_sign: bool
    finished: frozenset[str]  # the provider's own calls that have a result
    parts: list[JsonObject]

    def add(self, block: object) -> None:
        if isinstance(block, CBlock):
            self.parts.append({"text": block.value})
        elif isinstance(block, FileBlock):
            self.parts.append(_encode_file(block))
        elif isinstance(block, ThinkingBlock):
            self._add_thought(block)
        elif isinstance(block, ToolCall):
            self._call(block)
        elif isinstance(block, ToolOutput) and block.tool_call_id in self.finished:
            self.parts.append(_encode_builtin_result(block))

    def _add_thought(self, block: ThinkingBlock) -> None:
        signature = block.signature or ""
        # The signature belongs to the preceding part, whose block has no field for one.
        if signature.startswith(SIGNATURE_OF_LAST) and self.parts:
            self.parts[-1]["thoughtSignature"] = signature.removeprefix(SIGNATURE_OF_LAST)
        elif signature.startswith(SIGNATURE):
            thought: JsonObject = {"text": block.text, "thought": True} if block.text else {"text": ""}
            signature = signature.removeprefix(SIGNATURE_OF_LAST).removeprefix(SIGNATURE)
            self.parts.append({**thought, "thoughtSignature": signature})

    def _call(self, call: ToolCall) -> None:
        signature = (call.signature or "") if (call.signature or "").startswith(SIGNATURE) else None
        if call.is_builtin:
            if signature is None or call.tool_call_id not in self.finished:
                return  # another provider's, or one that Gemini doesn't accept back
            part = _encode_builtin_call(call)
        else:
            part = {"functionCall": {"name": call.tool_name, "args": make_jsonable(call.tool_args)}}
            if call.tool_call_id:
                part["functionCall"]["id"] = call.tool_call_id
        if signature := (signature or "").removeprefix(SIGNATURE):
            part["thoughtSignature"] = signature
        elif self.must_sign and not call.is_builtin and not any("functionCall" in part for part in self.parts):
            part["thoughtSignature"] = NO_SIGNATURE  # only the first of several parallel calls is signed
        self.parts.append(part)


def _encode_model_turn(message: Message, must_sign: bool) -> list[JsonObject]:
    calls = {call.tool_call_id for call in message.blocks if isinstance(call, ToolCall) and _is_gemini_s_own(call)}
    results = {block.tool_call_id for block in message.blocks if isinstance(block, ToolOutput)}
    # Both or neither: Gemini rejects a call without its result, and vice versa.
    turn = _ModelTurn(must_sign, frozenset(calls & results), [])
    for block in message.blocks:
        turn.add(block)
    return turn.parts


def _is_gemini_s_own(call: ToolCall) -> bool:
    return call.is_builtin and (call.signature or "").startswith(SIGNATURE)


def _encode_builtin_call(call: ToolCall) -> JsonObject:
    args = make_jsonable(call.tool_args)
    if call.tool_name == CODE_EXECUTION:
        return {"executableCode": {"id": call.tool_call_id, "language": "PYTHON", **args}}
    return {"toolCall": {"id": call.tool_call_id, "toolType": call.tool_name.upper(), "args": args}}


def _encode_builtin_result(output: ToolOutput) -> JsonObject:
    result = make_jsonable(output.result)
    if output.tool_name == CODE_EXECUTION:
        outcome = "OUTCOME_FAILED" if output.is_error else "OUTCOME_OK"
        return {"codeExecutionResult": {"id": output.tool_call_id, "outcome": outcome, "output": result}}
    return {"toolResponse": {"id": output.tool_call_id, "toolType": output.tool_name.upper(), "response": result}}


def _encode_file(block: FileBlock) -> JsonObject:
    if block.url is not None:
        return {"fileData": {"mimeType": block.essence, "fileUri": block.url}}
    return {"inlineData": {"mimeType": block.essence, "data": block.base64()}}
