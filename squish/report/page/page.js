'use strict';
// Draws all that is on the page from the JSON in #data. Texts come from files of unknown origin: they reach
// the page as text nodes and attributes, never as HTML.

const data = JSON.parse(document.getElementById('data').textContent);
const SVG = 'http://www.w3.org/2000/svg';
const METHODS = ['int', 'vptq', 'aqlm', 'quip', 'trellis', 'none', 'other'];

function element(tag, attributes = {}, ...children) {
  const svg = ['svg', 'g', 'path', 'line', 'text', 'rect', 'circle'].includes(tag);
  const made = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children.filter(child => child !== null));
  return made;
}

const isNumber = value => typeof value === 'number' && Number.isFinite(value);
const number = (value, digits) => !isNumber(value) ? '–'
  : value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits ? value.toExponential(1) : value.toFixed(digits);

// Rows, one shape for both stages.

function family(row) {
  const name = row.method === 'mixed' ? String(row.spec_full ?? '').split(':')[0] : row.method;
  if (/^int\d$/.test(name)) return 'int';
  return METHODS.includes(name) ? name : 'other';
}

/// A, B, ... Z, AA, AB, ...
const letters = index => (index < 26 ? '' : letters(Math.floor(index / 26) - 1)) + String.fromCharCode(65 + index % 26);

const rows = [];
data.files.forEach((file, index) => {
  const models = new Set((file.stage2 || []).map(row => row.model));
  for (const [stage, list] of [[1, file.stage1 || []], [2, file.stage2 || []]]) {
    for (const row of list) {
      const model = row.model && models.size > 1 ? ` (${String(row.model).split('/').filter(Boolean).pop()})` : '';
      rows.push({...row, stage, file, index, letter: letters(index), family: family(row), ok: row.status === 'ok',
                 label: row.spec + (row.sequential ? ' sequential' : row.calibrated ? ' calibrated' : '') + model,
                 // Rows that were measured on the same thing: only those compare.
                 subject: JSON.stringify(stage === 1
                   ? [row.rows, row.cols, file.config?.weights, file.config?.sigma, file.config?.seed]
                   : [file.reference?.path ?? file.config?.reference ?? file.model?.path, row.ppl_protocol, row.text_sha256,
                      row.scored_tokens].map(part => String(part ?? '').split('/').pop())),
                 tps: row.tps?.median, prefill_tps: row.prefill_tps?.median,
                 compress: row.compress_ms?.median, decompress: row.decompress_ms?.median,
                 megabytes: isNumber(row.file_bytes) ? row.file_bytes / 1e6 : undefined,
                 ppl_se: isNumber(row.ppl) && isNumber(row.nll_se) ? row.ppl * row.nll_se : undefined});
    }
  }
});

const COLUMNS = {
  1: [['rows', 'Rows', 0], ['cols', 'Columns', 0], ['bpw_nominal', 'BPW nominal', 3], ['bpw', 'BPW stored', 3],
      ['snr_db', 'SNR (dB)', 2], ['shannon_gap_db', 'Gap to the bound (dB)', 2],
      ['compress', 'Compress (ms)', 3], ['decompress', 'Decompress (ms)', 4]],
  2: [['bpw_linear', 'BPW linear', 3], ['bpw_model', 'BPW model', 3], ['megabytes', 'MB', 1], ['ppl', 'PPL', 3],
      ['ppl_se', '± of PPL', 3], ['delta_nll', 'ΔNLL (nats)', 4], ['delta_nll_se', '± of ΔNLL', 4], ['kld_mean', 'KLD (nats)', 4],
      ['top1_agreement', 'top-1', 4], ['tps', 'Tokens/s', 1], ['prefill_tps', 'Prefill tokens/s', 0],
      ['bandwidth_fraction', 'Of bandwidth', 3], ['quantize_s', 'Quantize (s)', 1]],
};

// The command that measures one row again; empty where the file does not tell. Its results go to a file of their own.

const quoted = text => /^[\w@%+=:,./-]+$/.test(text) ? text : `'${String(text).replaceAll("'", "'\\''")}'`;

function command(row) {
  const config = row.file.config || {};
  const words = ['squish'];
  const flag = (name, key) => {
    const value = config[key];
    if (value !== undefined && value !== '' && value !== 0 && value !== null) words.push(name, quoted(String(value)));
  };
  if (row.file.schema === 'squish.eval/1') {
    if (!row.model) return '';
    words.push('eval', quoted(String(row.model)));
    flag('--reference', 'reference');
    if (config.fused) words.push('--fused');
    if (config.fused_prompts) words.push('--fused-prompts');
    flag('--kv', 'kv');
  } else if (row.stage === 1) {
    words.push('bench', '--dry-run', '--markdown', '--methods', quoted(row.spec));
    if (config.weights) flag('--weights', 'weights');
    else for (const key of ['rows', 'cols', 'sigma']) flag('--' + key, key);
    if (row.seed !== undefined) words.push('--seed', quoted(String(row.seed)));
  } else {
    words.push('bench', '--markdown');
    if (row.seed !== undefined) words.push('--seed', quoted(String(row.seed)));
    flag('--model-dir', 'model_dir');
    words.push('--methods', quoted(row.method === 'none' ? 'int4:sym=0,g=64' : row.spec));
    if (row.calibrated) flag('--calib', 'calib');
    for (const key of ['embed-bits', 'head-bits', 'tps-tokens']) flag('--' + key, key.replace('-', '_'));
  }
  if (row.stage === 2) {
    flag('--ppl-data', 'ppl_data');
    flag('--ppl-protocol', 'ppl_protocol');
    flag('--ctx', 'ctx');
    words.push('--ppl-tokens', quoted(String(config.ppl_tokens ?? 2048)));
  }
  flag('--threads', 'threads');
  if (config.isa !== 'auto') flag('--isa', 'isa');
  words.push('--output', 'row.json');
  return words.join(' ');
}

// Tooltips, by pointer, keyboard and touch.

const tip = document.getElementById('tip');

function showTip(target, title, pairs, code) {
  tip.replaceChildren(element('b', {}, title), element('dl', {}, ...pairs.flatMap(
    ([name, value]) => [element('dt', {}, name), element('dd', {}, value)])));
  if (code) tip.append(element('code', {}, code));
  tip.hidden = false;
  const at = target.getBoundingClientRect(), own = tip.getBoundingClientRect();
  const left = Math.min(Math.max(at.left + at.width / 2 - own.width / 2, 4), innerWidth - own.width - 4);
  const above = at.top - own.height - 8;
  tip.style.left = left + 'px';
  tip.style.top = (above > 4 ? above : at.bottom + 8) + 'px';
}

function withTip(target, ...what) {
  for (const event of ['pointerenter', 'focus']) target.addEventListener(event, () => showTip(target, ...what));
  for (const event of ['pointerleave', 'blur']) target.addEventListener(event, () => { tip.hidden = true; });
  return target;
}

function describe(row) {
  const pairs = COLUMNS[row.stage].filter(([key]) => isNumber(row[key]) && !key.endsWith('_se'))
    .map(([key, name, digits]) => [name, number(row[key], digits)]);
  if (data.files.length > 1) pairs.push(['File', `${row.letter}: ${row.file.name}`]);
  return pairs;
}

// Figures.

const SHAPES = {
  int: (x, y) => `M${x - 5} ${y - 5}h10v10h-10z`,
  vptq: (x, y) => `M${x} ${y - 6}l6 11h-12z`,
  aqlm: (x, y) => `M${x} ${y + 6}l6 -11h-12z`,
  quip: (x, y) => `M${x} ${y - 7}l7 7l-7 7l-7 -7z`,
  trellis: (x, y) => `M${x - 5.5} ${y}a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0 -11 0z`,
  none: (x, y) => `M${x - 6} ${y}h12M${x} ${y - 6}v12`,
  other: (x, y) => `M${x - 5} ${y - 5}l10 10M${x - 5} ${y + 5}l10 -10`,
};

/// Filled: calibrated, or a matrix, where there is nothing to calibrate on.
function mark(kind, x, y, filled, attributes = {}) {
  return element('path', {d: SHAPES[kind](x, y), stroke: `var(--${kind})`,
                          fill: filled ? `var(--${kind})` : 'var(--panel)', ...attributes});
}

function niceTicks(low, high, log) {
  if (!log) {
    const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find(one => one * power >= raw) * power, first = Math.ceil(low / step - 1e-9);
    return Array.from({length: 8}, (_, i) => (first + i) * step).filter(tick => tick <= high + step * 1e-9);
  }
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); ++power) {
    for (const one of [1, 2, 5]) ticks.push(one * 10 ** power);
  }
  const inside = ticks.filter(tick => tick >= low * 0.999 && tick <= high * 1.001);
  if (inside.length < 2) return niceTicks(low, high, false);
  return inside.length > 8 ? inside.filter(tick => /^1/.test(tick.toExponential())) : inside;
}

const tickText = value => value === 0 ? '0' : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3
  ? value.toExponential(0) : String(Number(value.toPrecision(6)));

/// Positions of `values` from `from` to `to`, with some room on both sides.
function scale(values, log, from, to) {
  let low = Math.min(...values), high = Math.max(...values);
  const way = log ? Math.log : value => value, back = log ? Math.exp : value => value;
  const alike = high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high));
  const room = alike ? (log ? 0.2 : Math.abs(high) * 0.1 || 1) : (way(high) - way(low)) * 0.06;
  [low, high] = [back(way(low) - room), back(way(high) + room)];
  const place = value => from + (way(value) - way(low)) / (way(high) - way(low)) * (to - from);
  return {place, ticks: niceTicks(low, high, log).map(value => [place(value), tickText(value)])};
}

/// The points that no other beats in both: fewest `x` and least (or, with `most`, greatest) `y`.
function front(points, most) {
  const sorted = [...points].sort((a, b) => a.x - b.x || (most ? b.y - a.y : a.y - b.y));
  const best = [];
  for (const point of sorted) {
    const last = best[best.length - 1];
    if (!last || (most ? point.y > last.y : point.y < last.y)) best.push(point);
  }
  return best;
}

/// x and y: {label, of: row => number, log, most}; x beyond `most` are put on the right edge. Also: note, error
/// (row => number), clip (points beyond that many times the least are put on the upper edge), best ('least' or
/// 'most': draws the front), line (points => [{label, points}]).
function plot(title, chosen, {x, y, note = '', error, clip, best, line}) {
  const W = 480, H = 310, left = 56, right = 14, top = 10, bottom = 42;
  const points = chosen.map(row => ({row, x: x.of(row), y: y.of(row)}))
    .filter(point => isNumber(point.x) && isNumber(point.y) && (!x.log || point.x > 0) && (!y.log || point.y > 0));
  if (points.length < 2) return null;
  const limit = clip ? clip * Math.min(...points.map(point => point.y)) : Infinity;
  const most = points.some(point => point.x <= x.most) ? x.most : Infinity;
  const lines = line ? line(points.filter(point => point.x <= most)) : [];
  const above = points.filter(point => point.y > limit).length, right_of = points.filter(point => point.x > most).length;
  const across = scale(points.map(point => Math.min(point.x, most)), x.log, left, W - right);
  const up = scale([...points.map(point => Math.min(point.y, limit)), ...lines.flatMap(one => one.points.map(p => p.y))],
                   y.log, H - bottom, top);
  const svg = element('svg', {viewBox: `0 0 ${W} ${H}`, role: 'group', 'aria-label': title});
  for (const [at, text] of up.ticks) {
    svg.append(element('line', {class: 'grid', x1: left, x2: W - right, y1: at, y2: at}),
               element('text', {x: left - 6, y: at + 4, 'text-anchor': 'end'}, text));
  }
  for (const [at, text] of across.ticks) {
    svg.append(element('line', {class: 'axis', x1: at, x2: at, y1: H - bottom, y2: H - bottom + 4}),
               element('text', {x: at, y: H - bottom + 16, 'text-anchor': 'middle'}, text));
  }
  svg.append(element('line', {class: 'axis', x1: left, x2: W - right, y1: H - bottom, y2: H - bottom}),
             element('text', {x: (left + W - right) / 2, y: H - 8, 'text-anchor': 'middle'}, x.label),
             element('text', {x: 12, y: (top + H - bottom) / 2, 'text-anchor': 'middle',
                              transform: `rotate(-90 12 ${(top + H - bottom) / 2})`}, y.label));
  const path = list => list.map((point, i) => (i ? 'L' : 'M') + across.place(point.x) + ' ' + up.place(point.y)).join('');
  for (const one of lines) {
    svg.append(withTip(element('path', {class: 'limit', d: path(one.points)}), one.label, []));
  }
  if (best) {
    // The uncompressed model is what is compared with, not a choice at its bits.
    const within = points.filter(point => point.y <= limit && point.x <= most && point.row.method !== 'none');
    for (const subject of new Set(within.map(point => point.row.subject))) {
      svg.append(element('path', {class: 'front', d: path(front(within.filter(point => point.row.subject === subject), best === 'most'))}));
    }
  }
  for (const point of points) {
    const px = across.place(Math.min(point.x, most)), clipped = point.y > limit, py = clipped ? top + 6 : up.place(point.y);
    const half = error && !clipped ? error(point.row) : undefined;
    if (isNumber(half) && (!y.log || point.y - half > 0)) {
      svg.append(element('line', {class: 'error', x1: px, x2: px, y1: up.place(point.y - half),
                                  y2: up.place(point.y + half), stroke: `var(--${point.row.family})`}));
    }
    svg.append(withTip(mark(point.row.family, px, py, point.row.calibrated || point.row.stage === 1,
      {class: 'mark', tabindex: 0, role: 'img', 'aria-label': `${point.row.label}: ${x.label} ${number(point.x, 3)}, ${y.label} ${number(point.y, 3)}`}),
      point.row.label, describe(point.row), command(point.row)));
    if (data.files.length > 1) svg.append(element('text', {x: px + 7, y: py - 5}, point.row.letter));
  }
  const subjects = new Set(points.map(point => point.row.subject)).size;
  const say = [note, best && subjects > 1 ? `${subjects} different models or texts: only marks of one line compare.` : '', above ? `${above} beyond the upper edge are drawn on it.` : '',
               right_of ? `${right_of} beyond the right edge are drawn there.` : ''].filter(Boolean).join(' ');
  return element('figure', {}, element('figcaption', {}, element('h3', {}, title), element('p', {}, say)), element('div', {class: 'drawing'}, svg));
}

const bits = {label: 'bits per weight, linear layers', of: row => row.bpw_linear};
const size = {label: 'size of the model, MB', of: row => row.megabytes};
const perplexity = {label: 'perplexity', of: row => row.ppl, log: true};
const divergence = {label: 'KL divergence, nats', of: row => row.kld_mean, log: true};
const quality = {note: 'The line joins what nothing smaller beats.', best: 'least'};

/// What reading the weights from memory allows, for each machine.
function roofs(points) {
  const found = [];
  for (const file of data.files) {
    const bandwidth = file.host?.read_bandwidth_gbs;
    const own = points.filter(point => point.row.file === file && point.row.bytes_per_token > 0 && point.row.fused)
      .map(point => ({x: point.x, y: 1e9 * bandwidth / point.row.bytes_per_token}))
      .filter(point => isNumber(point.y)).sort((a, b) => a.x - b.x);
    if (own.length > 1) found.push({label: `the limit at ${number(bandwidth, 1)} GB/s: ${file.name}`, points: own});
  }
  return found;
}

/// 6.02 dB a bit: no code for independent Gaussian weights is above it.
function rateDistortion(points) {
  if (!points.length) return [];
  const ends = [Math.min, Math.max].map(end => end(...points.map(point => point.x)));
  return [{label: 'the bound for independent Gaussian weights, 6.02 dB a bit',
           points: ends.map(x => ({x, y: 20 * Math.log10(2) * x}))}];
}

function figures(shown) {
  const matrix = shown.filter(row => row.stage === 1), models = shown.filter(row => row.stage === 2);
  const speed = {label: 'generated tokens per second', of: row => row.tps};
  return [
    plot('Perplexity against bits', models, {x: bits, y: perplexity, error: row => row.ppl_se, clip: 20, ...quality}),
    plot('KL divergence against bits', models, {x: bits, y: divergence, clip: 100, ...quality}),
    plot('Perplexity against size', models, {x: size, y: perplexity, error: row => row.ppl_se, clip: 20, ...quality}),
    plot('KL divergence against size', models, {x: size, y: divergence, clip: 100, ...quality}),
    plot('Tokens per second against bits', models,
         {x: {label: 'bits per weight, whole model', of: row => row.bpw_model}, y: speed, line: roofs,
          note: 'Dashed: what the bandwidth of memory allows (of the cache more, where a model fits in it).'}),
    plot('KL divergence against the time to compress', models,
         {x: {label: 'seconds, calibration apart', of: row => row.quantize_s, log: true}, y: divergence, clip: 100, ...quality,
          note: 'The line joins what nothing faster beats.'}),
    plot('Signal to noise against bits, one matrix', matrix,
         {x: {label: 'bits per weight as stored', of: row => row.bpw, most: 8}, y: {label: 'SNR, dB', of: row => row.snr_db},
          best: 'most', line: matrix.some(row => isNumber(row.shannon_gap_db)) ? rateDistortion : undefined,
          note: matrix.some(row => isNumber(row.shannon_gap_db)) ? 'Dashed: the rate-distortion bound for Gaussian weights.' : ''}),
    plot('Signal to noise against the time to compress, one matrix', matrix,
         {x: {label: 'milliseconds', of: row => row.compress, log: true}, y: {label: 'SNR, dB', of: row => row.snr_db}}),
  ].filter(Boolean);
}

// A checkpoint's tensors by layer and role.

const ROLES = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

function heatMap(checkpoint, title, key, unit, digits) {
  const cells = [];
  for (const tensor of checkpoint.tensors) {
    const found = /layers\.(\d+)\..*?(\w+_proj)\.weight$/.exec(tensor.tensor || '');
    if (found && ROLES.includes(found[2]) && isNumber(tensor[key])) {
      cells.push({tensor, layer: Number(found[1]), role: ROLES.indexOf(found[2]), value: tensor[key]});
    }
  }
  if (!cells.length || cells.some(cell => cell.layer > 1000)) return null;
  const layers = 1 + Math.max(...cells.map(cell => cell.layer)), left = 64, W = 480;
  const wide = (W - left - 6) / layers, high = 18;
  const low = Math.min(...cells.map(cell => cell.value)), most = Math.max(...cells.map(cell => cell.value));
  const svg = element('svg', {viewBox: `0 0 ${W} ${ROLES.length * high + 34}`, role: 'group', 'aria-label': title});
  ROLES.forEach((role, i) => svg.append(element('text', {x: left - 6, y: i * high + 13, 'text-anchor': 'end'}, role)));
  for (let layer = 0; layer < layers; layer += Math.ceil(layers / 12)) {
    svg.append(element('text', {x: left + (layer + 0.5) * wide, y: ROLES.length * high + 14, 'text-anchor': 'middle'}, String(layer)));
  }
  svg.append(element('text', {x: (left + W) / 2, y: ROLES.length * high + 30, 'text-anchor': 'middle'}, 'layer'));
  for (const cell of cells) {
    const share = most > low ? Math.round(100 * (cell.value - low) / (most - low)) : 50;
    svg.append(withTip(element('rect', {class: 'cell', x: left + cell.layer * wide, y: cell.role * high, width: wide - 1,
      height: high - 1, fill: `color-mix(in oklab, var(--high) ${share}%, var(--low))`, tabindex: 0, role: 'img',
      'aria-label': `layer ${cell.layer}, ${ROLES[cell.role]}: ${number(cell.value, digits)} ${unit}`}),
      cell.tensor.tensor, [['Spec', cell.tensor.spec || '–'], ['Bits per weight', number(cell.tensor.bpw, 3)],
        ['SNR (dB)', number(cell.tensor.snr_db, 2)], ['Proxy SNR (dB)', number(cell.tensor.proxy_snr_db, 2)]]));
  }
  return element('figure', {}, element('figcaption', {}, element('h3', {}, `${title}: ${checkpoint.name}`),
    element('p', {}, `From ${number(low, digits)} (pale) to ${number(most, digits)} ${unit}.`)), element('div', {class: 'drawing'}, svg));
}

// Tables.

function download(name, type, text) {
  const link = element('a', {href: URL.createObjectURL(new Blob([text], {type})), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function csv(list, stage) {
  const keys = ['file', 'method', 'spec', 'spec_full', 'calibrated', 'seed', 'status',
                ...COLUMNS[stage].map(([key]) => key), 'command'];
  const cell = value => /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
  const line = row => keys.map(key => cell(String(key === 'file' ? row.file.name : key === 'command' ? command(row)
                                                                                       : row[key] ?? ''))).join(',');
  return [keys.join(','), ...list.map(line)].join('\n') + '\n';
}

const order = {1: [], 2: []};  // [key, 1 or -1], by stage

function table(title, shown, stage) {
  const list = shown.filter(row => row.stage === stage);
  if (!list.length) return null;
  const [key, way] = order[stage];
  if (key) {
    const known = row => key === 'label' || isNumber(row[key]);
    const compare = (a, b) => way * (key === 'label' ? a.label.localeCompare(b.label) : a[key] - b[key]);
    list.sort((a, b) => known(b) - known(a) || (known(a) ? compare(a, b) : 0));
  }
  const columns = [['label', 'Method'], ...COLUMNS[stage].filter(([one]) => list.some(row => isNumber(row[one])))];
  const head = columns.map(([one, name]) => element('th',
    {scope: 'col', 'aria-sort': one !== key ? 'none' : way > 0 ? 'ascending' : 'descending'},
    element('button', {type: 'button', 'data-key': one, onclick: () => {
      order[stage] = [one, key === one ? -way : 1];
      draw();
      document.querySelector(`[data-stage="${stage}"] [data-key="${one}"]`).focus();
    }}, name)));
  const copy = row => command(row) === '' ? '–' : element('button', {type: 'button', title: command(row), onclick: event => {
    const button = event.target, done = text => { button.textContent = text; setTimeout(() => { button.textContent = 'copy'; }, 1500); };
    const copied = navigator.clipboard?.writeText(command(row)) ?? Promise.reject();
    copied.then(() => done('copied'), () => { window.prompt('The command', command(row)); });
  }}, 'copy');
  const body = list.map(row => element('tr', {},
    element('td', {title: row.spec_full || ''}, (data.files.length > 1 ? row.letter + ' ' : '') + row.label),
    ...(row.ok ? columns.slice(1).map(([one, , digits]) => element('td', {}, number(row[one], digits)))
               : [element('td', {class: 'failed', colspan: columns.length - 1}, String(row.status))]),
    element('td', {}, copy(row))));
  return element('section', {'data-stage': stage}, element('h2', {}, title),
    element('div', {class: 'tools'},
      element('button', {type: 'button', onclick: () => download(`squish-stage${stage}.csv`, 'text/csv', csv(list, stage))}, 'Download CSV'),
      element('button', {type: 'button', onclick: () => download('squish.json', 'application/json', JSON.stringify(data, null, 1))}, 'Download JSON')),
    element('div', {class: 'wide'}, element('table', {},
      element('thead', {}, element('tr', {}, ...head, element('th', {scope: 'col'}, 'Command'))),
      element('tbody', {}, ...body))));
}

// The page.

const hidden = new Set();
const CALIBRATION = {yes: 'calibrated', no: 'not calibrated'};

const tags = row => [row.family, 'file ' + row.index, ...(row.stage === 1 || row.method === 'none' ? []
  : [row.calibrated ? CALIBRATION.yes : CALIBRATION.no])];

function legend() {
  const present = new Set(rows.flatMap(tags));
  const toggle = (tag, text, icon) => element('button', {type: 'button', 'data-tag': tag, 'aria-pressed': String(!hidden.has(tag)),
    onclick: () => {
      if (!hidden.delete(tag)) hidden.add(tag);
      draw();
      [...document.querySelectorAll('#legend button')].find(button => button.dataset.tag === tag)?.focus();
    }}, icon, text);
  const icon = (kind, filled) => element('svg', {viewBox: '-8 -8 16 16', 'aria-hidden': 'true'}, mark(kind, 0, 0, filled, {'stroke-width': 2}));
  const buttons = METHODS.filter(kind => present.has(kind)).map(kind => toggle(kind, kind, icon(kind, true)));
  if (present.has(CALIBRATION.yes) && present.has(CALIBRATION.no)) {
    buttons.push(toggle(CALIBRATION.yes, CALIBRATION.yes, icon('trellis', true)),
                 toggle(CALIBRATION.no, CALIBRATION.no, icon('trellis', false)));
  }
  if (data.files.length > 1) {
    data.files.forEach((file, i) => buttons.push(toggle('file ' + i, `${letters(i)}: ${file.name}`, null)));
  }
  return buttons;
}

function source(file, index) {
  const host = file.host || {}, squish = file.squish || {}, text = [...(file.stage2 || [])].find(row => row.ppl_protocol);
  const parts = [file.created, host.cpu, host.isa, isNumber(host.threads) ? host.threads + ' threads' : '',
                 isNumber(host.read_bandwidth_gbs) ? number(host.read_bandwidth_gbs, 1) + ' GB/s read' : '',
                 squish.version ? `squish ${squish.version} (${squish.commit})` : ''].filter(Boolean);
  const lines = [element('p', {class: 'source'}, element('b', {}, (data.files.length > 1 ? letters(index) + ': ' : '')
                         + file.name), ' · ' + parts.join(' · '))];
  if (file.model?.path) lines.push(element('p', {class: 'source'}, 'Model: ' + file.model.path));
  if (text) {
    lines.push(element('p', {class: 'source'},
      `Perplexity: ${text.ppl_protocol}, ${text.scored_tokens} scored tokens of ${text.text} (sha256 ${text.text_sha256}).`
      + (isNumber(file.noise_floor?.kld_mean) ? ` Noise floor: ΔNLL ${number(file.noise_floor.delta_nll, 4)}, KLD ${number(file.noise_floor.kld_mean, 4)}.` : '')));
  }
  for (const run of Array.isArray(file.calibration?.runs) ? file.calibration.runs : []) {
    lines.push(element('p', {class: 'source'}, `Calibrated on ${run.tokens} tokens of ${run.text} (${run.protocol}, text ${run.text_sha256}).`));
  }
  if (file.calibration?.lines_shared_with_ppl_data > 0) {
    lines.push(element('p', {class: 'warning'}, 'THE CALIBRATION HAS SEEN THIS TEXT: '
      + `they share ${file.calibration.lines_shared_with_ppl_data} lines, and calibrated rows look better than they are.`));
  }
  if (file.source_quantized) lines.push(element('p', {class: 'source'}, data.quantised_source));
  return lines;
}

function draw() {
  tip.hidden = true;
  const shown = rows.filter(row => !tags(row).some(tag => hidden.has(tag)));
  document.getElementById('legend').replaceChildren(...legend());
  document.getElementById('plots').replaceChildren(...figures(shown.filter(row => row.ok)));
  document.getElementById('tables').replaceChildren(...[table('Whole models', shown, 2), table('One matrix', shown, 1)].filter(Boolean));
}

document.getElementById('sources').replaceChildren(...data.files.flatMap(source),
  ...(rows.length || data.checkpoints.length ? [] : [element('p', {class: 'warning'}, 'These files hold no rows.')]));
document.getElementById('maps').replaceChildren(...data.checkpoints.flatMap(one => [
  heatMap(one, 'Bits per weight', 'bpw', 'bits', 3), heatMap(one, 'Proxy SNR', 'proxy_snr_db', 'dB', 1) ??
  heatMap(one, 'SNR', 'snr_db', 'dB', 1)]).filter(Boolean));
draw();
