// What the parts of a message look like. Each view has a node, and an `update` with the part as it is now.

const STATES = {
  'input-streaming': 'is being called', 'input-available': 'is running', 'approval-requested': 'asks for approval',
  'approval-responded': 'was answered', 'output-available': 'has run', 'output-error': 'failed', 'output-denied': 'was declined',
};

function shown(value) {
  return typeof value === 'string' ? value : JSON.stringify(value, null, 2) ?? '';
}

class TextView {
  constructor() {
    this.markdown = new MarkdownView();
    this.node = this.markdown.node;
  }

  update(part) { this.markdown.update(part.text); }
}

class ReasoningView {
  constructor() {
    this.title = element('summary');
    this.text = element('div', { className: 'thought' });
    this.node = element('details', { className: 'reasoning' }, this.title, this.text);
  }

  update(part) {
    this.title.textContent = part.state === 'streaming' ? 'Thinking …' : 'Thoughts';
    this.text.textContent = part.text || 'The model keeps its thoughts to itself.';
  }
}

class ToolView {
  constructor(part, actions) {
    this.actions = actions;
    this.title = element('summary');
    this.body = element('div');
    this.question = element('div', { className: 'question', tabIndex: -1 });
    this.details = element('details', { className: 'tool' }, this.title, this.body);
    this.node = element('div', {}, this.details, this.question);
    this.asked = null;
  }

  update(part) {
    const name = part.type === 'dynamic-tool' ? part.toolName : part.type.slice(5);
    const state = part.preliminary ? 'is running' : STATES[part.state] ?? part.state;
    this.title.replaceChildren(element('code', { textContent: name }), ` ${state}`);
    this.details.dataset.state = part.preliminary ? 'input-available' : part.state;
    const input = part.input ?? part.written;
    const sections = [
      ['Input', input], [part.preliminary ? 'So far' : 'Result', part.output], ['Error', part.errorText],
      ...(part.nested ?? []).map(({ path, text }) => [path, text]),
    ].filter(([, value]) => value !== undefined && value !== null);
    this.body.replaceChildren(...sections.map(([title, value]) => element(
      'section', {}, element('h4', { textContent: title }), element('pre', { tabIndex: 0, textContent: shown(value) }))));
    this.updateQuestion(part, name);
  }

  updateQuestion(part, name) {
    const isOpen = part.state === 'approval-requested' && this.actions.isLast();
    if (!isOpen) {
      this.question.replaceChildren();
      this.asked = null;
      return;
    }
    if (this.asked === part.approval.id) return;
    this.asked = part.approval.id;
    const reason = element('input', { type: 'text', placeholder: 'Reason, for the model', ariaLabel: `Why ${name} may not run` });
    const answer = (approved) => this.actions.reply(part, approved, reason.value.trim());
    const yes = element('button', { type: 'button', className: 'primary', textContent: 'Approve' });
    const no = element('button', { type: 'button', textContent: 'Decline' });
    yes.addEventListener('click', () => answer(true));
    no.addEventListener('click', () => answer(false));
    // What the server says by default repeats the call, which stands below.
    const why = part.approval.requestReason ?? '';
    const said = why.startsWith(`the tool '${name}' with the arguments`) ? '' : why;
    this.question.replaceChildren(
      element('p', {}, element('strong', { textContent: 'May this run? ' }), said),
      element('pre', { tabIndex: 0, textContent: `${name} ${shown(part.input)}` }),
      element('div', { className: 'answers' }, yes, no, reason));
    this.question.setAttribute('role', 'group');
    this.question.setAttribute('aria-label', `Approval of ${name}`);
  }
}

// A typed value as a form that fills in while it is written; fields keep their places.
class FormView {
  constructor(part) {
    this.node = element('fieldset', { className: 'form' }, element('legend', { textContent: part.type.slice(5) }));
    this.root = null;
  }

  update(part) {
    this.root = this.fill(this.root, part.data, part.type.slice(5));
    if (this.root.node.parentNode !== this.node) this.node.append(this.root.node);
  }

  fill(field, value, name) {
    const kind = Array.isArray(value) ? 'list' : value !== null && typeof value === 'object' ? 'object' : 'value';
    if (field?.kind !== kind) {
      const made = { kind, fields: new Map(), node: null };
      if (kind === 'value') made.node = element('output', { ariaLabel: name });
      else made.node = element(kind === 'list' ? 'ol' : 'div', { className: 'fields' });
      field?.node.replaceWith(made.node);
      field = made;
    }
    if (kind === 'value') {
      const text = value === null ? '–' : String(value);
      if (field.node.textContent !== text) field.node.textContent = text;
      return field;
    }
    for (const [key, item] of Object.entries(value)) this.fillOne(field, key, item);
    return field;
  }

  fillOne(field, key, item) {
    let row = field.fields.get(key);
    if (!row) {
      row = { node: element(field.kind === 'list' ? 'li' : 'div', { className: 'field' }), child: null };
      if (field.kind === 'object') row.node.append(element('span', { className: 'label', textContent: key.replaceAll('_', ' ') }));
      field.fields.set(key, row);
      field.node.append(row.node);
    }
    row.child = this.fill(row.child, item, key);
    if (row.child.node.parentNode !== row.node) row.node.append(row.child.node);
  }
}

class FileView {
  constructor({ mediaType, url }) {
    const isData = url.startsWith('data:');
    const isImage = isData && /^image\/(png|jpeg|gif|webp)$/i.test(mediaType);
    if (isImage) this.node = element('img', { src: url, alt: 'An image that the model made', className: 'made' });
    else if (isData || SAFE_LINK.test(url)) {
      const link = element('a', { href: url, textContent: `File (${mediaType})`, rel: 'noopener noreferrer', target: '_blank' });
      if (isData) link.download = 'file';
      this.node = element('p', {}, link);
    } else this.node = element('p', { textContent: url });
  }

  update() {}
}

class SourceView {
  constructor({ url, title }) {
    const isLink = url && SAFE_LINK.test(url);
    const said = title || url || 'a source';
    const link = { href: url, textContent: said, rel: 'noopener noreferrer', target: '_blank' };
    this.node = element('p', { className: 'source' }, 'Source: ', isLink ? element('a', link) : said);
  }

  update() {}
}

function makeView(part, actions) {
  const kind = part.type;
  if (kind === 'text') return new TextView();
  if (kind === 'reasoning') return new ReasoningView();
  if (kind === 'dynamic-tool' || kind.startsWith('tool-')) return new ToolView(part, actions);
  if (kind === 'file') return new FileView(part);
  if (kind.startsWith('source-')) return new SourceView(part);
  if (kind.startsWith('data-')) return new FormView(part);
  return null;
}

// One message: the views of its parts, in their order, and the attempts that were rejected.
class MessageView {
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.title = element('h2', { className: 'hidden', textContent: message.role === 'user' ? 'You' : 'Answer' });
    this.rejected = element('div', { className: 'rejected-attempts' });
    this.parts = element('div', { className: 'parts' });
    this.node = element('article', { className: `message ${message.role}` }, this.title, this.rejected, this.parts);
    this.views = [];
  }

  update() {
    const parts = this.message.parts.filter((part) => part.type !== 'step-start');
    parts.forEach((part, place) => {
      if (this.views[place]?.part !== part) {
        while (this.views.length > place) this.views.pop()?.view?.node.remove();
        const view = makeView(part, this.actions);
        this.views[place] = { part, view };
        if (view) this.parts.append(view.node);
      }
      this.views[place].view?.update(part);
    });
    while (this.views.length > parts.length) this.views.pop()?.view?.node.remove();
    this.updateRejected();
  }

  updateRejected() {
    const rejected = this.message.rejected ?? [];
    while (this.rejected.childElementCount < rejected.length) {
      const { number, requirement, reason, parts } = rejected[this.rejected.childElementCount];
      const text = parts.map((part) => part.text ?? '').join('');
      this.rejected.append(element('details', { className: 'attempt' },
        element('summary', { textContent: `Attempt ${number} was rejected: ${requirement}` }),
        ...(reason ? [element('p', { textContent: reason })] : []),
        ...(text ? [element('del', { textContent: text })] : [])));
    }
  }
}
