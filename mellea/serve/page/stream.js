// Reads UI message streams, version 7, and folds their parts into messages as the AI SDK's client does.

// Gives the parts of an answer. An answer that ends without `[DONE]` broke off, and is an error.
async function* readParts(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) throw new Error('The answer broke off.');
      const frames = (rest + value).split('\n\n');
      rest = frames.pop();
      for (const frame of frames) {
        if (frame === 'data: [DONE]') return;
        if (frame.startsWith('data: ')) yield JSON.parse(frame.slice(6));
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Folds parts into a message. What a rejected attempt had written is kept in `message.rejected`, for people.
class MessageFold {
  constructor(message) {
    this.message = message;
    this.open = new Map();
    this.ending = null;
    this.error = null;
  }

  take(part) {
    const { parts } = this.message;
    const kind = part.type;
    if (kind.startsWith('data-')) this.takeData(part);
    else if (/^(text|reasoning)-/.test(kind)) this.takeText(part);
    else if (kind.startsWith('tool-')) this.takeTool(part);
    else if (kind === 'start') this.takeStart(part);
    else if (kind === 'start-step') parts.push({ type: 'step-start' });
    else if (kind === 'reset-step') this.reset();
    else if (kind === 'file' || kind.startsWith('source-')) parts.push(part);
    else if (kind === 'error') [this.ending, this.error] = ['error', part.errorText];
    else if (kind === 'abort' || kind === 'finish') this.ending = kind;
    if (part.messageMetadata) Object.assign(this.message.metadata ??= {}, part.messageMetadata);
  }

  takeStart(part) {
    if (part.messageId && part.messageId !== this.message.id) {
      this.message.id = part.messageId;
    }
  }

  takeText({ type, id, delta, providerMetadata }) {
    const [kind, what] = type.split('-');
    if (what === 'start') {
      const text = { type: kind, text: '', state: 'streaming' };
      this.open.set(id, text);
      this.message.parts.push(text);
    }
    const text = this.open.get(id);
    if (!text) throw new Error(`The stream goes on with a text that hasn't begun: ${id}`);
    if (what === 'delta') text.text += delta;
    if (providerMetadata) text.providerMetadata = providerMetadata;
    if (what === 'end') {
      text.state = 'done';
      this.open.delete(id);
    }
  }

  takeTool(part) {
    const what = part.type.slice(5);
    const tool = this.findTool(part, what.startsWith('input'));
    if (what === 'input-delta') {
      tool.written = (tool.written ?? '') + part.inputTextDelta;
      return;
    }
    tool.state = {
      'input-start': 'input-streaming', 'input-available': 'input-available', 'input-error': 'output-error',
      'output-available': 'output-available', 'output-error': 'output-error', 'output-denied': 'output-denied',
      'approval-request': 'approval-requested',
    }[what] ?? tool.state;
    for (const name of ['input', 'output', 'errorText', 'providerExecuted']) if (name in part) tool[name] = part[name];
    if (what === 'output-available') tool.preliminary = part.preliminary === true || undefined;
    if (part.providerMetadata && what.startsWith('input')) tool.callProviderMetadata = part.providerMetadata;
    if (what === 'approval-request') {
      tool.approval = { id: part.approvalId, requestReason: part.reason, signature: part.signature };
    }
  }

  findTool({ toolCallId, toolName }, inStep) {
    const { parts } = this.message;
    const from = inStep ? parts.findLastIndex((part) => part.type === 'step-start') + 1 : 0;
    const found = parts.slice(from).findLast((part) => part.toolCallId === toolCallId);
    if (found || !inStep) {
      if (!found) throw new Error(`The stream says something of an unknown call: ${toolCallId}`);
      return found;
    }
    const tool = { type: `tool-${toolName}`, toolCallId, state: 'input-streaming' };
    parts.push(tool);
    return tool;
  }

  takeData(part) {
    const { parts } = this.message;
    if (part.type === 'data-attempt') this.noteRejection(part.data);
    if (part.type === 'data-nested') this.noteNested(part.data);
    if (part.transient) return;
    const same = part.id && parts.find((each) => each.type === part.type && each.id === part.id);
    if (same) same.data = part.data;
    else parts.push(part);
  }

  reset() {
    const { parts } = this.message;
    const removed = parts.splice(parts.findLastIndex((part) => part.type === 'step-start') + 1);
    this.open.clear();
    if (removed.length) this.removed = removed;
  }

  noteRejection(data) {
    (this.message.rejected ??= []).push({ ...data, parts: this.removed ?? [] });
    this.removed = undefined;
  }

  noteNested({ toolCallId, path, event }) {
    const tool = this.message.parts.findLast((part) => part.toolCallId === toolCallId);
    if (!tool || event.type !== 'text_delta') return;
    tool.nested ??= [];
    const last = tool.nested.at(-1);
    if (last?.path === path) last.text += event.chunk;
    else tool.nested.push({ path, text: event.chunk });
  }
}

// Leaves out of a message what is for this page alone.
function forServer({ id, role, parts }) {
  return { id, role, parts: parts.map(({ written, nested, ...part }) => part) };
}

// Whether the client has answered all that the last message asks, so that it can go on.
function isAnswered({ parts }) {
  const step = parts.slice(parts.findLastIndex((part) => part.type === 'step-start') + 1);
  const tools = parts.filter((part) => part.toolCallId);
  return !tools.some((tool) => tool.state === 'approval-requested')
    && tools.some((tool) => tool.state === 'approval-responded') && step.length > 0;
}
