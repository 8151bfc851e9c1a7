// The chat itself: sending, stopping, resuming after a reload, approvals. The chat lives in this tab (sessionStorage).

const config = JSON.parse(document.getElementById('config').textContent);
const $ = (id) => document.getElementById(id);
const STORE = `mellea-chat ${config.api}`;

const chat = { id: crypto.randomUUID(), messages: [] };
const views = new Map();
let running = null;  // the controller of the answer that is being read
let isDirty = false;

function save() {
  try {
    sessionStorage.setItem(STORE, JSON.stringify(chat));
  } catch {
    // Too large, or not allowed: the chat then lives as long as the page.
  }
}

function announce(text) { $('status').textContent = text; }

// -- showing ------------------------------------------------------------------------------------------

function draw() {
  isDirty = false;
  const list = $('messages');
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  chat.messages.forEach((message, place) => {
    let view = views.get(message);
    const isNew = !view;
    if (isNew) {
      view = new MessageView(message, { reply, isLast: () => message === chat.messages.at(-1) });
      views.set(message, view);
      list.append(view.node);
    }
    if (isNew || place >= chat.messages.length - 3) view.update();  // earlier ones don't change any more
  });
  for (const [message, view] of views) {
    if (!chat.messages.includes(message)) {
      view.node.remove();
      views.delete(message);
    }
  }
  $('empty').hidden = chat.messages.length > 0;
  if (isAtEnd) list.scrollTop = list.scrollHeight;
}

function redraw() {
  if (isDirty) return;
  isDirty = true;
  requestAnimationFrame(draw);
}

function show(isRunning) {
  $('stop').hidden = !isRunning;
  $('send').hidden = isRunning;
  $('messages').setAttribute('aria-busy', String(isRunning));
  $('again').hidden = isRunning || chat.messages.at(-1)?.role !== 'assistant';
  document.body.classList.toggle('running', isRunning);
}

function fail(text) {
  $('problem').hidden = !text;
  $('problem-text').textContent = text ?? '';
  if (text) announce(text);
}

// -- talking to the server ----------------------------------------------------------------------------

function request(path, options = {}) {
  const key = sessionStorage.getItem(`${STORE} key`);
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  return fetch(config.api + path, { ...options, headers });
}

async function explain(response) {
  if (response.status === 401 && config.needs_key) $('key').showModal();
  const body = await response.text();
  try {
    const { error } = JSON.parse(body);
    return error.message ?? String(error);
  } catch {
    return `The server answered with the status ${response.status}.`;
  }
}

// Reads an answer into the last message, or into a new one.
async function read(ask, goesOn) {
  fail(null);
  const controller = new AbortController();
  running = controller;
  show(true);
  announce('The answer is being written.');
  let fold = null;
  try {
    const response = await ask(controller.signal);
    if (response.status === 204) return;
    if (!response.ok) throw new Error(await explain(response));
    const last = chat.messages.at(-1);
    const message = goesOn && last?.role === 'assistant' ? last : { id: '', role: 'assistant', parts: [] };
    fold = new MessageFold(message);
    if (message !== last) chat.messages.push(message);
    for await (const part of readParts(response)) {
      fold.take(part);
      redraw();
    }
    if (fold.error) throw new Error(fold.error);
    announce(fold.ending === 'abort' ? 'The answer was stopped.' : 'The answer is complete.');
  } catch (error) {
    if (running !== controller) return;
    if (error.name !== 'AbortError') fail(error.message);
  } finally {
    if (running === controller) {
      running = null;
      draw();
      show(false);
      save();
      askForAnswers();
    }
  }
}

function askForAnswers() {
  const open = chat.messages.at(-1)?.parts.some((part) => part.state === 'approval-requested');
  if (!open) return;
  announce('The assistant asks for approval.');
  // Not the button: somebody who is just typing would approve with the next key.
  if (!$('text').value) document.querySelector('.question:not(:empty)')?.focus();
}

function post(trigger, goesOn = false) {
  save();
  const body = JSON.stringify({
    id: chat.id, messages: chat.messages.map(forServer), trigger, ...(config.programs.length > 1 ? { model: $('program').value } : {}),
  });
  const headers = { 'content-type': 'application/json' };
  return read((signal) => request('', { method: 'POST', headers, body, signal }), goesOn);
}

function send(text) {
  chat.messages.push({ id: crypto.randomUUID(), role: 'user', parts: [{ type: 'text', text }] });
  draw();
  $('messages').scrollTop = $('messages').scrollHeight;
  return post('submit-message');
}

function reply(part, approved, reason) {
  part.state = 'approval-responded';
  part.approval = { ...part.approval, approved, ...(reason ? { reason } : {}) };
  draw();
  if (isAnswered(chat.messages.at(-1)) && !running) post('submit-message', true);
}

async function stop() {
  if (!running) return;
  const { signal } = running;
  const response = await request(`/${encodeURIComponent(chat.id)}/stream`, { method: 'DELETE' }).catch(() => null);
  if (!response?.ok && !signal.aborted) running?.abort();
}

function writeAgain() {
  if (running) return;
  while (chat.messages.at(-1)?.role === 'assistant') chat.messages.pop();
  draw();
  if (chat.messages.length) post('regenerate-message');
}

function begin() {
  if (running) stop();
  running = null;
  Object.assign(chat, { id: crypto.randomUUID(), messages: [] });
  save();
  fail(null);
  draw();
  show(false);
  $('text').focus();
}

// A page that was reloaded while an answer was written gets the whole of it again.
async function restore() {
  let saved = null;
  try {
    saved = JSON.parse(sessionStorage.getItem(STORE));
  } catch {
    // What isn't readable is as good as nothing.
  }
  if (!Array.isArray(saved?.messages) || typeof saved.id !== 'string') return;
  Object.assign(chat, { id: saved.id, messages: saved.messages });
  draw();
  show(false);
  $('messages').scrollTop = $('messages').scrollHeight;
  if (chat.messages.at(-1)?.role === 'user') {
    await read((signal) => request(`/${encodeURIComponent(chat.id)}/stream`, { signal }), false);
    if (chat.messages.at(-1)?.role === 'user' && !running) fail('The answer was lost.');
  } else {
    askForAnswers();
  }
}

// -- the keys and buttons -----------------------------------------------------------------------------

function grow() {
  const text = $('text');
  text.style.height = 'auto';
  text.style.height = `${Math.min(text.scrollHeight + 2, window.innerHeight * 0.4)}px`;
}

function submit() {
  const text = $('text').value.trim();
  if (!text || running) return;
  $('text').value = '';
  grow();
  send(text);
}

$('composer').addEventListener('submit', (event) => { event.preventDefault(); submit(); });
$('text').addEventListener('input', grow);
$('text').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    submit();
  }
});
document.addEventListener('keydown', (event) => { if (event.key === 'Escape' && running) stop(); });
$('stop').addEventListener('click', stop);
$('again').addEventListener('click', writeAgain);
$('retry').addEventListener('click', writeAgain);
$('new').addEventListener('click', begin);
$('key-form').addEventListener('submit', () => {
  sessionStorage.setItem(`${STORE} key`, $('key-value').value);
  $('key-value').value = '';
});

for (const name of config.programs) $('program').append(element('option', { value: name, textContent: name }));
$('program').hidden = config.programs.length < 2;
show(false);
restore();
