// Reads UI message streams with the AI SDK's own clients. Standard input: JSON, a list of {name, version, url, body?};
// `abortAfter` is the number of parts after which the client stops the answer, as its `stop()` does.
// Standard output: a JSON line for each, with the message that the client has built, what it refuses, the parts it got.
import { readFileSync } from 'node:fs';

const packages = { 5: await import('ai5'), 6: await import('ai6'), 7: await import('ai7') };

async function read({ name, version, url, body, messages, resume, abortAfter }) {
  const { DefaultChatTransport, readUIMessageStream } = packages[version];
  const transport = new DefaultChatTransport({ api: url });
  const parts = [], errors = [], stopping = new AbortController();
  let message, status;
  try {
    const stream = resume
      ? await transport.reconnectToStream({ chatId: resume })
      : await transport.sendMessages({
          chatId: 'chat', trigger: 'submit-message', messageId: undefined, messages: messages ?? [], body,
          abortSignal: AbortSignal.any([AbortSignal.timeout(30000), stopping.signal]),
        });
    if (stream === null) return { name, version, status: 'nothing to resume' };
    const [first, second] = stream.tee();
    const noting = (async () => {
      for await (const part of second) if (parts.push(part) === abortAfter) stopping.abort();
    })().catch(() => {});
    const last = messages?.at(-1);
    for await (const next of readUIMessageStream({
      stream: first, terminateOnError: false, message: last?.role === 'assistant' ? structuredClone(last) : undefined,
      onError: (error) => errors.push(String(error.message ?? error)),
    })) message = structuredClone(next);
    await noting;
  } catch (error) {
    errors.push(`thrown: ${String(error.message).slice(0, 500)}`);
  }
  const told = parts.filter((part) => part.type === 'error').map((part) => part.errorText);
  return { name, version, told, refused: errors.filter((error) => !told.includes(error)), message, parts };
}

for (const one of JSON.parse(readFileSync(0, 'utf8'))) console.log(JSON.stringify(await read(one)));
