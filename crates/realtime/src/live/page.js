'use strict';
// Every value that comes from events reaches the document through textContent or a number, never as markup.

const STATES = {
  AK: [0, 0, 'Alaska'], ME: [10, 0, 'Maine'], VT: [9, 1, 'Vermont'], NH: [10, 1, 'New Hampshire'],
  WA: [0, 2, 'Washington'], ID: [1, 2, 'Idaho'], MT: [2, 2, 'Montana'], ND: [3, 2, 'North Dakota'], MN: [4, 2, 'Minnesota'],
  IL: [5, 2, 'Illinois'], WI: [6, 2, 'Wisconsin'], MI: [7, 2, 'Michigan'], NY: [8, 2, 'New York'], RI: [9, 2, 'Rhode Island'],
  MA: [10, 2, 'Massachusetts'], OR: [0, 3, 'Oregon'], NV: [1, 3, 'Nevada'], WY: [2, 3, 'Wyoming'], SD: [3, 3, 'South Dakota'],
  IA: [4, 3, 'Iowa'], IN: [5, 3, 'Indiana'], OH: [6, 3, 'Ohio'], PA: [7, 3, 'Pennsylvania'], NJ: [8, 3, 'New Jersey'],
  CT: [9, 3, 'Connecticut'], CA: [0, 4, 'California'], UT: [1, 4, 'Utah'], CO: [2, 4, 'Colorado'], NE: [3, 4, 'Nebraska'],
  MO: [4, 4, 'Missouri'], KY: [5, 4, 'Kentucky'], WV: [6, 4, 'West Virginia'], VA: [7, 4, 'Virginia'], MD: [8, 4, 'Maryland'],
  DE: [9, 4, 'Delaware'], AZ: [1, 5, 'Arizona'], NM: [2, 5, 'New Mexico'], KS: [3, 5, 'Kansas'], AR: [4, 5, 'Arkansas'],
  TN: [5, 5, 'Tennessee'], NC: [6, 5, 'North Carolina'], SC: [7, 5, 'South Carolina'], DC: [8, 5, 'District of Columbia'],
  OK: [3, 6, 'Oklahoma'], LA: [4, 6, 'Louisiana'], MS: [5, 6, 'Mississippi'], AL: [6, 6, 'Alabama'], GA: [7, 6, 'Georgia'],
  HI: [0, 7, 'Hawaii'], TX: [3, 7, 'Texas'], FL: [8, 7, 'Florida'],
};
const DEVICE_NAMES = { android: 'Android', ios: 'iOS', web: 'Web', other: 'Other', unknown: 'Unknown' };
const TITLE = document.title;
const MAX_ROWS = 8, MAX_PARTITIONS = 12, MEAN_SECONDS = 10, STEPS = 5;
// A few seconds that tower above all others would flatten the line: beyond this factor they are cut off, and said to be.
const CUT_SHARE = 0.05, CUT_FACTOR = 8, CUT_FROM = 50;
const OLD_EVENTS_MS = 3600000, BAD_SHARE = 0.05;
const OLD_AFTER_S = 4, RECONNECT_AFTER_S = 15, HIDDEN_LIMIT_MS = 20000, MAX_BACKOFF_MS = 10000;

// ---- numbers as text
const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat('en-US', { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat('en-US', { notation: 'compact', maximumSignificantDigits: 3 });
const short = new Intl.NumberFormat('en-US', { notation: 'compact', maximumSignificantDigits: 2 });
const large = (number) => (number < 1e7 ? whole : compact).format(number);
const percent = (part, all) => (all > 0 ? tenths.format(100 * part / all) : '0.0') + ' %';
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
const plural = (count, one, many) => whole.format(count) + ' ' + (count === 1 ? one : many);
// Three significant digits and a unit: [number, unit].
function duration(ms) {
  if (ms === null) return ['–', ''];
  const units = [[86400000, 'd'], [3600000, 'h'], [60000, 'min'], [1000, 's'], [1, 'ms']];
  const [size, unit] = units.find(([size]) => ms >= size) || [1, 'ms'];
  const value = ms / size;
  return [value >= 100 || (unit === 'ms' && value >= 10) ? whole.format(value) : tenths.format(value), unit];
}
const durationText = (ms) => duration(ms).join(' ').trim();

// ---- the document
const byId = (id) => document.getElementById(id);
function setText(node, text) { if (node.textContent !== text) node.textContent = text; }
function setAttribute(node, name, value) { if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value); }
function element(name, className, parent) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (parent) parent.append(node);
  return node;
}
function svg(name, attributes, parent) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (parent) parent.append(node);
  return node;
}
function showValue(id, value, unit) {
  const node = byId(id);
  if (!node.firstElementChild) node.replaceChildren(element('span'), element('small'));
  setText(node.firstElementChild, value);
  setText(node.lastElementChild, unit);
}

// ---- lists with bars: rows are kept and rewritten, so nothing jumps and a selection stays
function showRows(id, entries, total, emptyText, withShare) {
  const list = byId(id);
  if (entries.length === 0) {
    if (!list.querySelector('.empty')) { list.replaceChildren(element('li', 'empty')); }
    setText(list.firstElementChild, emptyText);
    return;
  }
  if (list.querySelector('.empty')) list.replaceChildren();
  while (list.children.length > entries.length) list.lastElementChild.remove();
  const largest = Math.max(1, ...entries.map((entry) => (entry.isRest ? 0 : entry.count)));
  entries.forEach((entry, index) => {
    const row = list.children[index] || newRow(list);
    const [name, count, share, bar] = row.children;
    setText(name, entry.name);
    name.title = entry.name;
    setText(count, whole.format(entry.count));
    share.hidden = !withShare;
    setText(share, withShare ? percent(entry.count, total) : '');
    // The rest is a sum of many: a bar of it would compare what cannot be compared.
    bar.hidden = entry.isRest === true;
    bar.firstElementChild.style.width = (100 * entry.count / largest) + '%';
  });
}
function newRow(list) {
  const row = element('li', 'row', list);
  for (const name of ['name', 'count', 'share']) element('span', name, row);
  const bar = element('span', 'bar', row);
  bar.setAttribute('aria-hidden', 'true');
  element('i', '', bar);
  return row;
}
// The largest entries, and one for the rest.
function topOf(entries, limit) {
  if (entries.length <= limit) return entries;
  const rest = entries.slice(limit - 1);
  return [...entries.slice(0, limit - 1), { name: whole.format(rest.length) + ' more', count: sum(rest.map((entry) => entry.count)), isRest: true }];
}
const namedCounts = (entries) => entries.map((entry) => ({ name: entry.name, count: entry.logins }));

// ---- charts
// The smallest step of 1, 2 or 5 times a power of ten that makes at most `count` of `largest`; counts are whole.
function niceStep(largest, count) {
  const rough = Math.max(1, largest / count);
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
}
function chartFrame(box, largest) {
  const width = Math.max(200, box.clientWidth), height = Math.max(120, box.clientHeight);
  const step = niceStep(largest, 4), top = Math.max(step, Math.ceil(largest / step) * step);
  const label = compact.format(top);
  const area = { left: 14 + 7 * label.length, right: width - 8, top: 10, bottom: height - 22 };
  const root = svg('svg', { viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' });
  const y = (value) => area.bottom - (area.bottom - area.top) * value / top;
  for (let value = 0; value <= top; value += step) {
    svg('line', { class: value ? 'grid' : 'base', x1: area.left, x2: area.right, y1: y(value), y2: y(value) }, root);
    svg('text', { x: area.left - 6, y: y(value) + 4, 'text-anchor': 'end' }, root).textContent = compact.format(value);
  }
  return { root, area, y, top };
}
function present(box, root) {
  const old = box.querySelector('svg');
  if (old) old.replaceWith(root); else box.append(root);
}
// The mean of each second and those before it.
function means(values) {
  let running = 0;
  return values.map((value, index) => {
    running += value - (index >= MEAN_SECONDS ? values[index - MEAN_SECONDS] : 0);
    return running / Math.min(index + 1, MEAN_SECONDS);
  });
}

// What the scale has to hold. The busiest 5 % of the seconds do not count where they are many times as busy as all others.
function scaleOf(values, peak) {
  const busy = values.filter((value) => value > 0).sort((a, b) => b - a), skipped = Math.floor(values.length * CUT_SHARE);
  if (busy.length <= skipped) return peak;
  const usual = Math.max(busy[skipped], busy[Math.floor(busy.length / 2)]);
  return peak >= CUT_FROM && peak > CUT_FACTOR * usual ? 2 * usual : peak;
}
let cursor = null; // index of the second that is read, or null
function drawLine(stats) {
  const box = byId('line'), values = stats.logins.per_second, smooth = means(values);
  const { root, area, y: place, top } = chartFrame(box, scaleOf(values, stats.logins.peak));
  const y = (value) => place(Math.min(value, top));
  const x = (index) => area.left + (area.right - area.left) * index / (values.length - 1);
  const points = (numbers) => numbers.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join('L');
  svg('path', { class: 'area', d: `M${area.left},${area.bottom}L${points(values)}L${area.right},${area.bottom}Z` }, root);
  svg('path', { class: 'mean', d: 'M' + points(smooth) }, root);
  let beyond = 0;
  values.forEach((value, index) => {
    if (value <= top) return;
    beyond++;
    svg('path', { class: 'fill-second', d: `M${x(index) - 4},${area.top + 3}L${x(index)},${area.top - 5}L${x(index) + 4},${area.top + 3}Z` }, root);
  });
  byId('beyond').hidden = beyond === 0;
  setText(byId('beyond-text'), `${plural(beyond, 'second', 'seconds')} beyond the scale, up to ${whole.format(stats.logins.peak)}`);
  const minutes = stats.window_seconds / 60;
  for (let minute = 0; minute <= minutes; minute += 5) {
    const at = area.right - (area.right - area.left) * minute / minutes;
    const anchor = minute === 0 ? 'end' : minute === minutes ? 'start' : 'middle';
    const text = svg('text', { x: at, y: area.bottom + 17, 'text-anchor': anchor }, root);
    text.textContent = minute === 0 ? 'now' : `−${minute} min`;
  }
  if (cursor !== null) {
    const index = Math.min(cursor, values.length - 1);
    svg('line', { class: 'cursor', x1: x(index), x2: x(index), y1: area.top, y2: area.bottom }, root);
    svg('circle', { class: 'fill-accent', cx: x(index), cy: y(smooth[index]), r: 4 }, root);
    const ago = values.length - index;
    const when = ago < 60 ? `${ago} s ago` : `${Math.floor(ago / 60)} min ${ago % 60} s ago`;
    setText(byId('line-readout'), `${when}: ${plural(values[index], 'login', 'logins')}, mean ${tenths.format(smooth[index])} per second`);
  } else {
    setText(byId('line-readout'), 'point at the chart to read a second');
  }
  setAttribute(box, 'aria-label', `Line over 15 minutes: now ${rateText(stats.logins.rate)} logins per second, peak ${whole.format(stats.logins.peak)}.`);
  present(box, root);
}
function drawHours(stats) {
  const { utc, local } = stats.hours, box = byId('hours');
  const { root, area, y } = chartFrame(box, Math.max(...utc, ...local));
  const slot = (area.right - area.left) / 24, bar = Math.max(2, slot * 0.38);
  for (let hour = 0; hour < 24; hour++) {
    const left = area.left + slot * hour + (slot - 2 * bar - 1) / 2;
    [[utc, 'fill-accent', 0, 'UTC'], [local, 'fill-second', bar + 1, 'local time']].forEach(([counts, fill, shift, clock]) => {
      const node = svg('rect', { class: fill, x: left + shift, y: y(counts[hour]), width: bar, height: area.bottom - y(counts[hour]), rx: Math.min(2, bar / 2) }, root);
      svg('title', {}, node).textContent = `${hour}:00 ${clock}: ${plural(counts[hour], 'login', 'logins')}`;
    });
    if (slot > 26 || hour % 3 === 0) {
      svg('text', { x: area.left + slot * (hour + 0.5), y: area.bottom + 17, 'text-anchor': 'middle' }, root).textContent = hour;
    }
  }
  const busiest = (counts) => counts.indexOf(Math.max(...counts));
  const label = stats.logins.total === 0 ? 'No logins.' :
    `Bars of 24 hours: busiest UTC hour ${busiest(utc)}` + (sum(local) > 0 ? `, busiest local hour ${busiest(local)}.` : '.');
  setAttribute(box, 'aria-label', label);
  present(box, root);
  tellHours(utc, local);
}
// The same as a table, for those who hear the page.
function tellHours(utc, local) {
  const body = byId('hours-table').tBodies[0];
  for (let hour = 0; hour < 24; hour++) {
    const row = body.rows[hour] || element('tr', '', body);
    if (row.cells.length === 0) {
      element('th', '', row).scope = 'row';
      element('td', '', row);
      element('td', '', row);
    }
    [`${hour}:00`, whole.format(utc[hour]), whole.format(local[hour])].forEach((text, index) => setText(row.cells[index], text));
  }
}
function drawDelays(stats) {
  const box = byId('delays'), counts = stats.delay.event_to_published.distribution;
  const { root, area, y } = chartFrame(box, Math.max(0, ...counts.map((entry) => entry.logins)));
  const slot = (area.right - area.left) / Math.max(counts.length, 6);
  const labelEvery = Math.ceil(62 / slot);
  counts.forEach((entry, index) => {
    const bar = Math.min(slot - 3, 44), left = area.left + slot * index;
    const node = svg('rect', { class: 'fill-accent', x: left + (slot - bar) / 2, y: y(entry.logins), width: bar, height: area.bottom - y(entry.logins), rx: 2 }, root);
    svg('title', {}, node).textContent = `up to ${durationText(entry.up_to_ms)}: ${plural(entry.logins, 'login', 'logins')}`;
    if ((counts.length - 1 - index) % labelEvery === 0) {
      svg('text', { x: left + slot / 2, y: area.bottom + 17, 'text-anchor': 'middle' }, root).textContent = '≤ ' + durationText(entry.up_to_ms);
    }
  });
  const { p50_ms, p99_ms } = stats.delay.event_to_published;
  setAttribute(box, 'aria-label', p50_ms === null ? 'No logins.' : `Bars of delays: half of the logins within ${durationText(p50_ms)}, 99 percent within ${durationText(p99_ms)}.`);
  present(box, root);
}

// ---- the map
const tiles = new Map();
for (const [code, [column, row, name]] of Object.entries(STATES).sort(([, a], [, b]) => a[1] - b[1] || a[0] - b[0])) {
  const tile = element('div', 'tile', byId('tiles'));
  tile.setAttribute('role', 'listitem');
  tile.style.gridColumn = column + 1;
  tile.style.gridRow = row + 1;
  element('b', '', tile).textContent = code;
  tiles.set(code, { tile, name, count: element('span', '', tile) });
}
function drawMap(stats) {
  const counts = stats.locales, largest = Math.max(0, ...Object.keys(STATES).map((code) => counts[code] || 0));
  // The colours grow with the square root: one large state does not make all others look empty.
  const stepOf = (count) => (count === 0 ? 0 : Math.min(STEPS, Math.ceil(STEPS * Math.sqrt(count / largest))));
  for (const [code, { tile, name, count }] of tiles) {
    const logins = counts[code] || 0, label = `${name}: ${plural(logins, 'login', 'logins')}`;
    setText(count, logins < 1000 ? String(logins) : short.format(logins));
    setAttribute(tile, 'data-step', stepOf(logins));
    setAttribute(tile, 'aria-label', label);
    setAttribute(tile, 'title', label);
  }
  const scale = byId('scale');
  scale.hidden = largest < STEPS * STEPS;
  for (let step = 1; step <= STEPS; step++) {
    let item = scale.children[step - 1];
    if (!item) {
      item = element('li', '', scale);
      element('i', '', item).dataset.step = step;
      element('span', '', item);
    }
    const from = Math.floor(largest * ((step - 1) / STEPS) ** 2) + 1, to = Math.floor(largest * (step / STEPS) ** 2);
    setText(item.lastElementChild, `${short.format(from)}–${short.format(to)}`);
  }
  const others = Object.entries(counts).filter(([code]) => !(code in STATES) && code !== 'unknown').sort((a, b) => b[1] - a[1]);
  const shown = others.slice(0, 6).map(([code, count]) => `${code} ${whole.format(count)}`).join(', ');
  const outside = whole.format(sum(others.map(([, count]) => count))) + ' outside the map' + (shown ? ` (${shown}${others.length > 6 ? ', …' : ''})` : '');
  setText(byId('elsewhere'), `${outside} · ${whole.format(counts.unknown || 0)} without a locale`);
  const states = Object.keys(STATES).map((code) => ({ name: STATES[code][2], count: counts[code] || 0 }))
    .filter((entry) => entry.count > 0).sort((a, b) => b.count - a.count || a.name.localeCompare(b.name));
  showRows('states', states.slice(0, MAX_ROWS), stats.logins.total, 'No logins from a state.', true);
}

// ---- devices
function drawDevices(stats) {
  const list = byId('devices'), stack = byId('device-stack'), total = sum(stats.devices.map((device) => device.logins));
  stats.devices.forEach((device, index) => {
    let row = list.children[index];
    if (!row) {
      row = element('li', 'row device', list);
      for (const name of ['swatch', 'name', 'count', 'share']) element('span', name, row);
      element('i', '', stack);
    }
    const known = Object.hasOwn(DEVICE_NAMES, device.name) ? device.name : 'other';
    const [swatch, name, count, share] = row.children;
    swatch.dataset.device = stack.children[index].dataset.device = known;
    setText(name, DEVICE_NAMES[known]);
    setText(count, whole.format(device.logins));
    setText(share, percent(device.logins, total));
    stack.children[index].style.width = (total > 0 ? 100 * device.logins / total : 0) + '%';
    stack.children[index].hidden = device.logins === 0;
  });
}

// ---- everything
const rateText = (rate) => (rate < 1000 ? tenths : whole).format(rate);
let stats = null;
function draw() {
  if (!stats) return;
  const { logins, delay, dead_letters: dead, lag } = stats;
  showValue('rate', rateText(logins.rate), '/ s');
  setText(byId('peak'), `peak ${whole.format(logins.peak)} / s`);
  showValue('total', large(logins.total), '');
  showValue('p50', ...duration(delay.event_to_published.p50_ms));
  showValue('p99', ...duration(delay.event_to_published.p99_ms));
  const inKafka = delay.kafka_to_published;
  // Whoever replays history is not slow: the delay is the age of the events.
  const meaning = (ms) => (ms >= OLD_EVENTS_MS ? 'age of old events' : 'event to publication');
  for (const share of ['p50', 'p99']) {
    const own = share + '_ms';
    setText(byId(share + '-kafka'), inKafka ? `from Kafka: ${durationText(inKafka[own])}` : meaning(delay.event_to_published[own]));
  }
  byId('from-kafka').hidden = !inKafka;
  setText(byId('delay-note'), delay.event_to_published.p99_ms >= OLD_EVENTS_MS
    ? 'Old events came in, as with a replay: their delay is their age.'
    : 'Most clients send whole seconds, so up to 1 s of it is rounding.');
  showValue('dead', large(dead.total), '');
  setText(byId('dead-share'), percent(dead.total, dead.total + logins.total) + ' of all');
  byId('dead').dataset.tone = dead.total > BAD_SHARE * (dead.total + logins.total) ? 'bad' : 'none';
  const waiting = sum(lag.map((partition) => partition.records));
  showValue('wait', lag.length ? large(waiting) : '–', '');
  setText(byId('wait-note'), lag.length ? `in ${plural(lag.length, 'partition', 'partitions')}` : 'not known');
  drawLine(stats);
  drawDevices(stats);
  drawMap(stats);
  drawHours(stats);
  drawDelays(stats);
  showRows('regions', topOf(namedCounts(stats.regions), MAX_ROWS), logins.total, 'No logins.', true);
  showRows('versions', topOf(namedCounts(stats.app_versions), MAX_ROWS), logins.total, 'No logins.', true);
  showRows('reasons', topOf(dead.reasons.map((entry) => ({ name: entry.reason, count: entry.records })), MAX_ROWS), dead.total, 'No dead letters.', true);
  const partitions = lag.map((entry) => ({ name: 'partition ' + entry.partition, count: entry.records }));
  if (partitions.length > MAX_PARTITIONS) partitions.sort((a, b) => b.count - a.count);
  showRows('lag', topOf(partitions, MAX_PARTITIONS), waiting, 'Not known.', false);
  byId('unreadable').hidden = stats.unreadable === 0;
  setText(byId('unreadable'), plural(stats.unreadable, 'record', 'records') + ' of the processed topic could not be read');
  setText(byId('clock'), new Date(stats.now_ms).toISOString().slice(11, 19) + ' UTC');
}

// ---- how fresh it is
let paused = false, connected = false, loggedOut = false, arrivedAt = null;
const ageSeconds = () => (arrivedAt === null ? 0 : Math.round((performance.now() - arrivedAt) / 1000));
function condition() {
  if (paused) return ['Paused', 'warn', true];
  if (!connected && loggedOut) return ['Logged out', 'bad', true];
  if (!stats) return [connected ? 'Waiting for numbers' : 'Connecting', 'none', false];
  if (!connected) return ['Reconnecting', 'bad', true];
  if (ageSeconds() >= OLD_AFTER_S) return ['No news', 'bad', true];
  switch (stats.reader.state) {
    case 'retrying': return ['Kafka does not answer', 'bad', false];
    case 'starting': case 'catching_up': return ['Reading the last 15 minutes', 'warn', false];
    default:
      if (stats.stale) return ['Stale', 'bad', false];
      if (stats.logins.total > 0) return ['Live', 'good', false];
      return stats.dead_letters.total > 0 ? ['Live, dead letters only', 'warn', false] : ['Live, no logins', 'good', false];
  }
}
function showCondition() {
  const [text, tone, withAge] = condition(), old = withAge && arrivedAt !== null;
  setText(byId('status'), text);
  setText(byId('age'), old ? `data is ${ageSeconds()} s old` : '');
  byId('pill').dataset.tone = tone;
  // Seen where the page is one of many tabs.
  document.title = (tone === 'good' || tone === 'none' ? '' : text + ' · ') + TITLE;
  byId('numbers').dataset.old = tone === 'bad' && arrivedAt !== null;
  let banner = '';
  if (stats && connected && stats.reader.state === 'retrying') {
    banner = 'The numbers are not those of now: ' + stats.reader.detail;
  } else if (stats && connected && stats.stale) {
    banner = stats.newest_age_ms === null ? 'Records wait, and nothing was published in 15 minutes.'
      : 'Records wait, and nothing was published for more than 30 seconds.';
  } else if (stats && connected && stats.logins.total === 0 && stats.dead_letters.total > 0) {
    banner = 'Every record of the last 15 minutes was rejected. The reasons are below, at “Dead letters by reason”.';
  } else if (!connected && !paused && loggedOut) {
    banner = 'The session has ended. Reload this page to log in again.';
  } else if (stats && !connected && !paused) {
    banner = 'The service does not answer. The page connects again by itself.';
  }
  byId('banner').hidden = banner === '';
  setText(byId('banner'), banner);
}

// ---- the stream
let source = null, retry = null, backoffMs = 1000;
function disconnect() {
  clearTimeout(retry);
  if (source) source.close();
  source = null;
  connected = false;
}
function connect() {
  disconnect();
  if (paused) return;
  const opened = new EventSource('api/events');
  source = opened;
  opened.onopen = () => { connected = true; loggedOut = false; showCondition(); };
  opened.onmessage = (event) => {
    connected = true;
    backoffMs = 1000;
    stats = JSON.parse(event.data);
    arrivedAt = performance.now();
    draw();
    showCondition();
  };
  opened.onerror = () => {
    connected = false;
    // The browser tries again by itself, except after an answer that is no stream.
    if (opened.readyState === EventSource.CLOSED) {
      // A stream does not tell why.
      fetch('api/stats', { cache: 'no-store' }).then((answer) => { loggedOut = answer.status === 401; showCondition(); }, () => {});
      clearTimeout(retry);
      retry = setTimeout(connect, backoffMs);
      backoffMs = Math.min(2 * backoffMs, MAX_BACKOFF_MS);
    }
    showCondition();
  };
}
setInterval(() => {
  if (!paused && connected && ageSeconds() > 0 && ageSeconds() % RECONNECT_AFTER_S === 0) connect();
  showCondition();
}, 1000);

byId('pause').addEventListener('click', () => {
  paused = !paused;
  setText(byId('pause'), paused ? 'Resume' : 'Pause');
  if (paused) disconnect(); else connect();
  showCondition();
});
// A page that nobody sees asks for nothing.
let hiding = null;
document.addEventListener('visibilitychange', () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(disconnect, HIDDEN_LIMIT_MS);
  else if (!source && !paused) connect();
});

// ---- reading single seconds
const line = byId('line');
function readAt(index) {
  if (!stats) return;
  cursor = index === null ? null : Math.max(0, Math.min(stats.logins.per_second.length - 1, index));
  drawLine(stats);
}
line.addEventListener('pointermove', (event) => {
  const root = line.querySelector('svg');
  if (!stats || !root) return;
  const mean = root.querySelector('.base').getBoundingClientRect(), last = stats.logins.per_second.length - 1;
  readAt(Math.round(last * (event.clientX - mean.left) / mean.width));
});
line.addEventListener('pointerleave', () => readAt(null));
line.addEventListener('blur', () => readAt(null));
line.addEventListener('keydown', (event) => {
  const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -60, PageDown: 60, Home: -Infinity, End: Infinity };
  if (event.key === 'Escape') readAt(null);
  if (!Object.hasOwn(moves, event.key) || !stats) return;
  event.preventDefault();
  const last = stats.logins.per_second.length - 1;
  readAt((cursor === null ? last : cursor) + moves[event.key]);
});
new ResizeObserver(draw).observe(byId('numbers'));
connect();
