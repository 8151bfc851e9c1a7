// Markdown as nodes. Nothing of a text is ever markup: nodes are made here, and texts are set as texts.

const SAFE_LINK = /^(https?:|mailto:)/i;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Returns the nodes of a line's inline marks: code, strong, emphasis, links. Each character is looked at a bounded
// number of times.
function inline(text) {
  const nodes = [];
  let plain = '', at = 0;
  const flush = () => { if (plain) nodes.push(plain); plain = ''; };
  const missing = {};  // marks that have no end behind this place
  const endOf = (mark, from) => {
    if (missing[mark]) return -1;
    const found = text.indexOf(mark, from);
    if (found < 0) missing[mark] = true;
    return found;
  };
  while (at < text.length) {
    const char = text[at];
    if (char === '\\' && /[\\`*_{}[\]()#+.!|>~-]/.test(text[at + 1] ?? '')) {
      plain += text[at + 1];
      at += 2;
      continue;
    }
    const mark = char === '`' ? '`' : text.startsWith('**', at) ? '**' : char === '*' ? '*' : null;
    if (mark) {
      const end = endOf(mark, at + mark.length);
      const inner = end < 0 ? '' : text.slice(at + mark.length, end);
      if (inner && (mark === '`' || inner.trim() === inner)) {
        flush();
        const name = { '`': 'code', '**': 'strong', '*': 'em' }[mark];
        nodes.push(element(name, {}, ...(mark === '`' ? [inner] : inline(inner))));
        at = end + mark.length;
        continue;
      }
      plain += mark;
      at += mark.length;
      continue;
    }
    const link = char === '[' ? readLink(text, at, endOf) : null;
    if (link) {
      flush();
      nodes.push(element('a', { href: link.url, target: '_blank', rel: 'noopener noreferrer' }, link.label));
      at = link.end;
      continue;
    }
    plain += char;
    at += 1;
  }
  flush();
  return nodes;
}

function readLink(text, at, endOf) {
  const middle = endOf('](', at);
  if (middle < 0 || middle - at > 1000) return null;
  const end = text.indexOf(')', middle);
  const url = end < 0 || end - middle > 2000 ? '' : text.slice(middle + 2, end);
  return SAFE_LINK.test(url) ? { label: text.slice(at + 1, middle), url, end: end + 1 } : null;
}

// Splits a text into blocks, each with its first line; a block never changes once another one stands behind it.
function splitBlocks(text) {
  const blocks = [];
  let lines = [], fence = null;
  const close = () => { if (lines.length) blocks.push(lines.join('\n')); lines = []; };
  for (const line of text.split('\n')) {
    const mark = line.match(/^ {0,3}(`{3,}|~{3,})/)?.[1];
    if (fence) {
      lines.push(line);
      if (mark && mark[0] === fence[0] && mark.length >= fence.length) { fence = null; close(); }
    } else if (mark) {
      close();
      fence = mark;
      lines.push(line);
    } else if (!line.trim()) {
      close();
    } else if (/^#{1,6} /.test(line)) {
      close();
      lines.push(line);
      close();
    } else {
      lines.push(line);
    }
  }
  close();
  return blocks;
}

function renderBlock(block) {
  const lines = block.split('\n');
  const first = lines[0];
  if (/^ {0,3}(`{3,}|~{3,})/.test(first)) return renderCode(lines);
  const heading = first.match(/^(#{1,6}) (.*)$/);
  if (heading) return element(`h${Math.min(6, heading[1].length + 2)}`, {}, ...inline(heading[2]));
  if (/^ {0,3}([-*_])( *\1){2,} *$/.test(first) && lines.length === 1) return element('hr');
  if (/^ {0,3}>/.test(first)) {
    const inner = lines.map((line) => line.replace(/^ {0,3}> ?/, '')).join('\n');
    return element('blockquote', {}, ...splitBlocks(inner).slice(0, 100).map(renderBlock));
  }
  if (/^ *([-*+]|\d{1,9}[.)]) /.test(first)) return renderList(lines);
  if (lines.length > 1 && first.includes('|') && /^[ |:-]*-[ |:-]*$/.test(lines[1])) return renderTable(lines);
  return element('p', {}, ...lines.flatMap((line, number) => [...(number ? [element('br')] : []), ...inline(line)]));
}

function renderCode(lines) {
  const isClosed = lines.length > 1 && /^ {0,3}(`{3,}|~{3,}) *$/.test(lines.at(-1));
  const code = lines.slice(1, isClosed ? -1 : undefined).join('\n');
  const copy = element('button', { type: 'button', className: 'copy', textContent: 'Copy' });
  copy.addEventListener('click', async () => {
    await navigator.clipboard.writeText(code);
    copy.textContent = 'Copied';
    setTimeout(() => { copy.textContent = 'Copy'; }, 1500);
  });
  const pre = element('pre', { tabIndex: 0 }, element('code', { textContent: code }));
  return element('div', { className: 'code' }, copy, pre);
}

function renderList(lines) {
  const root = element(/^ *\d/.test(lines[0]) ? 'ol' : 'ul');
  const open = [{ indent: 0, list: root, item: null }];
  for (const line of lines) {
    const found = line.match(/^( *)([-*+]|\d{1,9}[.)]) (.*)$/);
    if (!found) {
      open.at(-1).item?.append(element('br'), ...inline(line.trim()));
      continue;
    }
    const indent = found[1].length;
    while (open.length > 1 && indent < open.at(-1).indent) open.pop();
    if (open.at(-1).item && indent > open.at(-1).indent + 1 && open.length < 6) {
      const list = element(/\d/.test(found[2]) ? 'ol' : 'ul');
      open.at(-1).item.append(list);
      open.push({ indent, list, item: null });
    }
    const level = open.at(-1);
    if (!level.item && level.list.tagName === 'OL') level.list.start = parseInt(found[2], 10);
    level.item = element('li', {}, ...inline(found[3]));
    level.list.append(level.item);
  }
  return root;
}

function renderTable(lines) {
  const cells = (line) => line.trim().replace(/^\|/, '').replace(/\|$/, '').split('|').map((cell) => cell.trim());
  const row = (line, name) => element('tr', {}, ...cells(line).map((cell) => element(name, {}, ...inline(cell))));
  const body = element('tbody', {}, ...lines.slice(2).map((line) => row(line, 'td')));
  return element('div', { className: 'table', tabIndex: 0 }, element('table', {}, element('thead', {}, row(lines[0], 'th')), body));
}

// A text that grows: only the blocks that have changed are made anew.
class MarkdownView {
  constructor() {
    this.node = element('div', { className: 'markdown' });
    this.blocks = [];
  }

  update(text) {
    const blocks = splitBlocks(text);
    let same = 0;
    while (same < blocks.length && blocks[same] === this.blocks[same]) same += 1;
    while (this.node.childElementCount > same) this.node.lastElementChild.remove();
    this.node.append(...blocks.slice(same).map(renderBlock));
    this.blocks = blocks;
  }
}
