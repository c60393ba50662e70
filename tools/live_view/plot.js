// Draws rows of a trace: a panel for each kind of value over one axis of time. No state of its own.

export const START = 0, COUNT = 1, LOST = 2, MARKERS = 3, FIXED = 4;
const KINDS = [["w", "power", "W"], ["a", "current", "A"], ["v", "voltage", "V"], ["j", "energy", "J"]];
const LEFT = 66, RIGHT = 14, TOP = 24, AXIS = 26, GAP = 28, LANE = 13;
const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

/** The panels of a trace and where in a row its lines are: least, mean and greatest of each. */
export function layout({ series, channels }) {
  const count = series.length;
  const line = (name, index) => {
    const channel = name.slice(0, name.lastIndexOf("_"));
    return { channel: channels.indexOf(channel), least: FIXED + index, greatest: FIXED + count + index,
             mean: FIXED + 2 * count + index };
  };
  const of = (unit) => series.flatMap((name, index) => (name.endsWith(`_${unit}`) ? [line(name, index)] : []));
  const energy = channels.map((_, index) => {
    const at = FIXED + 3 * count + index;
    return { channel: index, least: at, greatest: at, mean: at };
  });
  const powered = new Set(of("w").map((one) => one.channel));
  return KINDS.map(([key, title, unit]) => ({
    key, title, unit, lines: key === "j" ? energy.filter((one) => powered.has(one.channel)) : of(key),
  })).filter((panel) => panel.lines.length);
}

/** The height that a plot wants, in px. */
export function height(panels, bits, width) {
  const each = width < 640 ? 120 : 150;
  return TOP + panels.length * (each + GAP) + bits.length * LANE + (bits.length ? GAP : 0) + AXIS;
}

/** The bits that some row has, of 0 to 7. */
export function bitsOf(rows) {
  let all = 0;
  for (const row of rows) all |= row[MARKERS];
  return [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => all & (1 << bit));
}

/** A value in a unit with its prefix: "1.234 mW". */
export function si(value, unit, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const [scale, prefix] = prefixOf(Math.abs(value));
  const scaled = value / scale;
  const whole = Math.max(1, Math.floor(Math.log10(Math.max(Math.abs(scaled), 1e-9))) + 1);
  return `${scaled.toFixed(Math.max(0, digits - whole))} ${prefix}${unit}`.trim();
}

function prefixOf(size) {
  if (size >= 1e6) return [1e6, "M"];
  if (size >= 1e3) return [1e3, "k"];
  if (size >= 1 || size === 0) return [1, ""];
  if (size >= 1e-3) return [1e-3, "m"];
  return [1e-6, "µ"];
}

/** Time in s as a person reads it, with as many decimals as a step needs. */
export function clock(seconds, step = 1) {
  const decimals = Math.min(6, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));
  if (Math.abs(seconds) < 120) return `${seconds.toFixed(decimals)} s`;
  const size = Number(Math.abs(seconds).toFixed(decimals)), two = decimals ? decimals + 3 : 2;
  const rest = (size % 60).toFixed(decimals).padStart(two, "0"), minutes = Math.floor(size / 60) % 60;
  const hours = Math.floor(size / 3600), whole = hours ? `${hours}:${String(minutes).padStart(2, "0")}` : minutes;
  return `${seconds < 0 ? "−" : ""}${whole}:${rest}`;
}

function stepFor(range, parts) {
  const raw = range / parts, power = 10 ** Math.floor(Math.log10(raw));
  return power * [1, 2, 5, 10].find((one) => one * power >= raw * 0.999);
}

/** x of a time, and the time of an x, in a plot of this width. */
export const xOf = (time, view, width) => LEFT + ((time - view.from) / (view.to - view.from)) * (width - LEFT - RIGHT);
export const timeAt = (x, view, width) => view.from + ((x - LEFT) / (width - LEFT - RIGHT)) * (view.to - view.from);
export const columnsIn = (width) => Math.max(1, Math.round(width - LEFT - RIGHT));

/** Draws all of it. `cursor` is an x or null, `marked` two of them or null; `colour` gives a name's colour. */
export function draw(ctx, { panels, bits, rows, view, width, height: tall, colour, cursor, marked, names }) {
  ctx.font = FONT;
  ctx.lineJoin = "round";
  const inner = { left: LEFT, right: width - RIGHT };
  const bottom = tall - AXIS;
  timeAxis(ctx, view, width, bottom, colour);
  const each = (bottom - TOP - bits.length * LANE - (bits.length ? GAP : 0)) / panels.length - GAP;
  const nearest = cursor === null ? null : rowAt(rows, timeAt(cursor, view, width));
  ctx.save();
  ctx.beginPath();
  ctx.rect(inner.left, 0, inner.right - inner.left, bottom);
  ctx.clip();
  losses(ctx, rows, view, width, TOP, bottom, colour);
  ctx.restore();
  panels.forEach((panel, index) => {
    const top = TOP + index * (each + GAP);
    onePanel(ctx, { panel, top, bottom: top + each, rows, view, width, colour, nearest, names });
  });
  lanes(ctx, { bits, top: TOP + panels.length * (each + GAP), rows, view, width, colour });
  if (cursor !== null && nearest) {
    ctx.fillStyle = colour("--ink-2");
    ctx.fillRect(Math.round(cursor), TOP, 1, bottom - TOP);
    const text = clock(timeAt(cursor, view, width), (view.to - view.from) / 1000);
    ctx.textAlign = cursor > width / 2 ? "right" : "left";
    ctx.fillText(text, cursor + (cursor > width / 2 ? -6 : 6), bottom - 4);
  }
  if (marked) {
    ctx.fillStyle = colour("--select");
    ctx.fillRect(Math.min(...marked), TOP, Math.abs(marked[1] - marked[0]), bottom - TOP);
  }
}

function timeAxis(ctx, view, width, bottom, colour) {
  const step = stepFor(view.to - view.from, Math.max(2, (width - LEFT - RIGHT) / 110));
  ctx.textAlign = "center";
  ctx.textBaseline = "alphabetic";
  for (let tick = Math.ceil(view.from / step); tick * step <= view.to; tick++) {
    const x = xOf(tick * step, view, width);
    ctx.fillStyle = colour("--line");
    ctx.fillRect(Math.round(x), TOP, 1, bottom - TOP);
    const text = clock(tick * step, step);
    const half = ctx.measureText(text).width / 2;
    ctx.fillStyle = colour("--ink-2");
    ctx.fillText(text, Math.min(Math.max(x, half + 2), width - half - 2), bottom + 17);
  }
}

/** Nothing is known from the sample before a lost one to the sample after it. */
function losses(ctx, rows, view, width, top, bottom, colour) {
  ctx.fillStyle = colour("--bad");
  ctx.globalAlpha = 0.22;
  rows.forEach((row, index) => {
    if (!row[LOST]) return;
    const first = row[COUNT] > row[LOST] ? row : rows[Math.max(0, index - 1)];
    const left = xOf(first[START], view, width), right = xOf((rows[index + 1] ?? row)[START], view, width);
    ctx.fillRect(left, top, Math.max(2, right - left), bottom - top);
  });
  ctx.globalAlpha = 1;
}

function rangeOf(rows, lines) {
  let low = Infinity, high = -Infinity;
  for (const row of rows) {
    for (const line of lines) {
      if (row[line.least] < low) low = row[line.least];
      if (row[line.greatest] > high) high = row[line.greatest];
    }
  }
  if (low > high) return [0, 1];
  if (low > 0 && low < 0.6 * high) low = 0;
  const least = Math.max(Math.abs(high), Math.abs(low)) * 0.02 || 1e-6;
  if (high - low < least) [low, high] = [(low + high - least) / 2, (low + high + least) / 2];
  return [low, high];
}

function onePanel(ctx, { panel, top, bottom, rows, view, width, colour, nearest, names }) {
  const [low, high] = rangeOf(rows, panel.lines);
  const step = stepFor(high - low, 3);
  const bounds = [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step];
  const y = (value) => bottom - ((value - bounds[0]) / (bounds[1] - bounds[0])) * (bottom - top);
  const [scale, prefix] = prefixOf(Math.max(Math.abs(bounds[0]), Math.abs(bounds[1])));
  const decimals = Math.min(6, Math.max(0, Math.ceil(-Math.log10(step / scale) - 1e-9)));
  ctx.textBaseline = "middle";
  ctx.textAlign = "right";
  for (let value = bounds[0]; value <= bounds[1] + step / 2; value += step) {
    ctx.fillStyle = colour("--line");
    ctx.fillRect(LEFT, Math.round(y(value)), width - LEFT - RIGHT, 1);
    ctx.fillStyle = colour("--ink-2");
    ctx.fillText((value / scale).toFixed(decimals).replace(/^-(0\.?0*)$/, "$1"), LEFT - 7, y(value));
  }
  ctx.save();
  ctx.beginPath();
  ctx.rect(LEFT, top - 2, width - LEFT - RIGHT, bottom - top + 4);
  ctx.clip();
  for (const line of panel.lines) oneLine(ctx, { line, rows, view, width, y, stroke: colour(`--channel-${line.channel % 6}`) });
  ctx.restore();
  ctx.textBaseline = "alphabetic";
  ctx.textAlign = "left";
  ctx.fillStyle = colour("--ink");
  ctx.fillText(`${panel.title}, ${prefix}${panel.unit}`, LEFT, top - 8);
  if (nearest) readings(ctx, { panel, top, width, row: nearest, colour, names });
}

function oneLine(ctx, { line, rows, view, width, y, stroke }) {
  ctx.strokeStyle = ctx.fillStyle = stroke;
  for (const run of runs(rows, line.mean)) {
    const xs = run.map((row) => xOf(row[START], view, width));
    ctx.globalAlpha = 0.35;
    ctx.beginPath();
    run.forEach((row, index) => ctx.lineTo(xs[index], y(row[line.greatest])));
    for (let index = run.length - 1; index >= 0; index--) ctx.lineTo(xs[index], y(run[index][line.least]));
    ctx.closePath();
    ctx.fill();
    ctx.lineWidth = 1; // a band of no width, one sample among many, is still to be seen
    ctx.stroke();
    ctx.globalAlpha = 1;
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    run.forEach((row, index) => ctx.lineTo(xs[index], y(row[line.mean])));
    ctx.stroke();
    if (run.length < width / 8) {
      for (let index = 0; index < run.length; index++) ctx.fillRect(xs[index] - 2, y(run[index][line.mean]) - 2, 4, 4);
    }
  }
}

/** Neighbouring rows between gaps. */
function runs(rows, mean) {
  const found = [];
  let open = null;
  for (const row of rows) {
    if (Number.isNaN(row[mean])) open = null;
    else if (open) open.push(row);
    else found.push((open = [row]));
  }
  return found;
}

function readings(ctx, { panel, top, width, row, colour, names }) {
  ctx.textAlign = "right";
  let x = width - RIGHT;
  for (const line of [...panel.lines].reverse()) {
    const name = panel.lines.length > 1 && width > 640 ? `${names[line.channel]} ` : "";
    const apart = row[COUNT] > 1 && line.least !== line.mean;
    const range = apart ? ` (${si(row[line.least], "")} – ${si(row[line.greatest], panel.unit)})` : "";
    const text = name + si(row[line.mean], panel.unit) + range;
    if (x - ctx.measureText(text).width < LEFT + 90) return;
    ctx.fillStyle = colour(`--channel-${line.channel % 6}`);
    ctx.fillText(text, x, top - 8);
    x -= ctx.measureText(text).width + 14;
  }
}

function lanes(ctx, { bits, top, rows, view, width, colour }) {
  bits.forEach((bit, index) => {
    const y = top + index * LANE;
    ctx.fillStyle = colour("--ink-2");
    ctx.textAlign = "right";
    ctx.textBaseline = "middle";
    ctx.fillText(`marker ${bit}`, LEFT - 7, y + LANE / 2);
    ctx.fillStyle = colour("--channel-3");
    rows.forEach((row, at) => {
      const on = (one) => one && one[MARKERS] & (1 << bit);
      if (!on(row) || on(rows[at - 1])) return;
      let end = at + 1;
      while (on(rows[end])) end++;
      const left = Math.max(LEFT, xOf(row[START], view, width));
      const right = Math.min(width - RIGHT, xOf((rows[end] ?? rows[end - 1])[START], view, width));
      if (right >= LEFT && left <= width - RIGHT) ctx.fillRect(left, y + 2, Math.max(1.5, right - left), LANE - 4);
    });
  });
}

/** The last row that starts before a time. */
export function rowAt(rows, time) {
  let low = 0, high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle][START] <= time) low = middle + 1;
    else high = middle;
  }
  return rows[low - 1] ?? null;
}
