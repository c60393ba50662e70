// What the page knows and does: what is in view, the stream of it, the numbers, saving.

import { bitsOf, clock, columnsIn, COUNT, draw, FIXED, height, layout, LOST, MARKERS, si, START, timeAt } from "./plot.js";

const SPANS_S = [0.1, 1, 10, 60, 600, 3600, 36000];
const LEAST_SPAN_S = 0.001, MOST_SPAN_S = 1e6;
const MOST_COLUMNS = 4096; // the server's
const WAIT_MS = 120; // a wheel turns often; the server is asked when it rests
const $ = (id) => document.getElementById(id);
const canvas = $("plot"), ctx = canvas.getContext("2d");

// `rows` is all that is kept of the trace: what is in view, one row for each column
const page = { about: null, state: null, rows: [], view: { from: 0, to: 10 }, span: 10, follows: true, cursor: null, marked: null };
globalThis.page = page;
let source = null, panels = [], dirty = true, timer = 0, width = 0, colours = {};

// -- the stream ---------------------------------------------------------------------------------------------

function connect() {
  source?.close();
  const stretch = page.follows ? { span: page.span } : page.view;
  width = canvas.clientWidth;
  const columns = Math.min(MOST_COLUMNS, columnsIn(width));
  const mine = new EventSource(`/stream?${new URLSearchParams({ ...stretch, columns })}`);
  let fresh = true;
  source = mine;
  mine.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.about && Object.keys(message.about).length) introduce(message.about);
    if (message.about) fresh = true;
    if (message.data) {
      take(rowsOf(message), fresh);
      fresh = false;
    }
    page.state = message;
    follow();
    if (message.ended) mine.close();
    $("note").textContent = message.note ?? "";
    show(message.ended ? "ended" : page.follows ? "live" : "paused");
  };
  mine.onerror = () => show("lost", mine.readyState === EventSource.CLOSED ? "refused" : "no connection");
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(() => page.state?.ended || connect(), WAIT_MS);
  dirty = true;
}

function rowsOf({ rows: count, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const values = new Float64Array(bytes.buffer), length = values.length / count;
  return Array.from({ length: count }, (_, index) => values.slice(index * length, (index + 1) * length));
}

/** New rows take the place of all from the first one's time on. */
function take(rows, fresh) {
  if (fresh) page.rows = rows;
  else {
    while (page.rows.length && page.rows.at(-1)[START] >= rows[0][START]) page.rows.pop();
    page.rows.push(...rows);
  }
}

function follow() {
  const { now_s: now, first_s: first, samples } = page.state;
  if (!page.follows || !samples) return;
  const to = Math.max(now, first + page.span);
  page.view = { from: to - page.span, to };
  let old = 0; // one before the edge stays, for the line to it
  while (old + 1 < page.rows.length && page.rows[old + 1][START] < page.view.from) old++;
  page.rows.splice(0, old);
}

function introduce(about) {
  page.about = about;
  panels = layout(about);
  document.title = $("title").textContent = title();
  $("simulated").hidden = !about.simulated;
  $("channels").replaceChildren(...about.channels.map(card));
}

const title = () => [page.about.device || page.about.meter, page.about.serial].filter(Boolean).join(" ");

// -- numbers ------------------------------------------------------------------------------------------------

const NOW = [["w", "power", "W"], ["a", "current", "A"], ["v", "voltage", "V"], ["j", "energy", "J"]];

function has(name, key) {
  return page.about.series.includes(`${name}_${key === "j" ? "w" : key}`);
}

function card(name, index) {
  const box = element("article", { className: "channel" });
  box.style.setProperty("--colour", `var(--channel-${index % 6})`);
  const heading = element("h2", { textContent: name });
  if ((page.about.scopes[name] || name) !== name) heading.append(" ", element("small", { textContent: page.about.scopes[name] }));
  const list = element("dl", { className: "now" });
  for (const [key, word] of NOW.filter(([key]) => has(name, key))) {
    const value = element("dd", { id: `now-${name}-${key}` });
    const pair = element("div");
    pair.append(element("dt", { textContent: word }), value);
    list.append(pair);
  }
  box.append(heading, list, element("div", { className: "view", id: `view-${name}` }));
  return box;
}

const element = (tag, fields = {}) => Object.assign(document.createElement(tag), fields);

function numbers() {
  const { state, about } = page;
  if (!state?.samples || !about) return;
  for (const name of about.channels) {
    for (const [key, , unit] of NOW.filter(([key]) => has(name, key))) {
      const value = key === "j" ? state.energy_j[name] : state.latest[`${name}_${key}`];
      $(`now-${name}-${key}`).textContent = si(value, unit);
    }
    $(`view-${name}`).textContent = inView(name);
  }
  $("recorded").textContent = clock(state.now_s - state.first_s, 0.1);
  $("samples").textContent = state.samples.toLocaleString("en").replaceAll(",", "\u202f");
  $("dropped").textContent = state.dropped;
  $("dropped").classList.toggle("wrong", state.dropped > 0);
  $("unknown").textContent = state.unknown_s > 1e-9 ? si(state.unknown_s, "s", 3) : "0 s";
  $("unknown").classList.toggle("wrong", state.unknown_s > 1e-9);
}

/** Energy of a channel in view, mean power and its extremes. */
function inView(name) {
  const { rows, about, view } = page;
  const index = about.series.indexOf(`${name}_w`), count = about.series.length;
  const inside = rows.filter((row) => row[START] >= view.from && row[START] < view.to);
  if (index < 0 || inside.length < 2) return "";
  const at = FIXED + 3 * count + about.channels.indexOf(name);
  const [first, last] = [inside[0], inside.at(-1)], seconds = last[START] - first[START];
  let least = Infinity, greatest = -Infinity, sum = 0, known = 0;
  for (const row of inside) {
    if (Number.isNaN(row[FIXED + 2 * count + index])) continue;
    least = Math.min(least, row[FIXED + index]);
    greatest = Math.max(greatest, row[FIXED + count + index]);
    sum += row[FIXED + 2 * count + index] * (row[COUNT] - row[LOST]);
    known += row[COUNT] - row[LOST];
  }
  if (!known) return "";
  // energies are those of the rows' ends: the last row's is left out, as its time is
  const energy = inside.at(-2)[at] - (rows[rows.indexOf(first) - 1]?.[at] ?? 0);
  return `in view: ${si(energy, "J")} in ${clock(seconds, seconds / 100)}, mean ${si(sum / known, "W")}, `
    + `${si(least, "W")} to ${si(greatest, "W")}`;
}

function show(word, text = word) {
  $("state").textContent = text;
  $("state").className = `badge ${word}`;
  $("pause").textContent = page.follows ? "Pause" : "Live";
  $("pause").setAttribute("aria-pressed", String(!page.follows));
  $("pause").disabled = word === "ended" && page.follows;
  $("parquet").disabled = word === "ended" || word === "lost";
  dirty = true;
}

// -- drawing ------------------------------------------------------------------------------------------------

function colour(name) {
  if (!(name in colours)) {
    $("probe").style.color = `var(${name})`;
    colours[name] = getComputedStyle($("probe")).color;
  }
  return colours[name];
}

function scene(width, tall) {
  return { panels, bits: bitsOf(page.rows), rows: page.rows, view: page.view, width, height: tall, colour,
           cursor: page.cursor, marked: page.marked, names: page.about.channels };
}

function frame() {
  if (dirty && page.about && canvas.clientWidth) {
    dirty = false;
    const width = canvas.clientWidth, tall = height(panels, bitsOf(page.rows), width), ratio = devicePixelRatio;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(tall * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(tall * ratio);
      canvas.style.height = `${tall}px`;
    }
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, tall);
    draw(ctx, scene(width, tall));
    numbers();
  }
  requestAnimationFrame(frame);
}

// -- what a person does ---------------------------------------------------------------------------------------

function look(from, to) {
  page.follows = false;
  page.view = { from, to };
  page.span = to - from;
  $("span").value = "";
  show(page.state?.ended ? "ended" : "paused");
  later();
}

function live(span = page.span) {
  page.follows = true;
  page.span = span;
  follow();
  $("span").value = SPANS_S.includes(span) ? String(span) : "";
  show(page.state?.ended ? "ended" : "live");
  later();
}

function zoom(factor, x) {
  const span = Math.min(MOST_SPAN_S, Math.max(LEAST_SPAN_S, page.span * factor));
  if (page.follows) return live(span);
  const middle = timeAt(x, page.view, canvas.clientWidth), share = (middle - page.view.from) / page.span;
  look(middle - share * span, middle + (1 - share) * span);
}

function move(pixels) {
  const shift = timeAt(0, page.view, canvas.clientWidth) - timeAt(pixels, page.view, canvas.clientWidth);
  const { first_s: first = 0, now_s: now = 0 } = page.state ?? {}, half = page.span / 2;
  const from = Math.min(Math.max(page.view.from + shift, first - half), now - half);
  look(from, from + page.span);
}

const xIn = (event) => event.clientX - canvas.getBoundingClientRect().left;
const pointers = new Map();

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) move(-event.deltaX);
  else zoom(Math.exp(event.deltaY * (event.deltaMode ? 0.05 : 0.002)), xIn(event));
}, { passive: false });

canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, xIn(event));
  if (event.pointerType === "mouse" && !event.shiftKey) page.marked = [xIn(event), xIn(event)];
});

canvas.addEventListener("pointermove", (event) => {
  const x = xIn(event);
  page.cursor = event.pointerType === "mouse" ? x : null;
  dirty = true;
  if (!pointers.has(event.pointerId)) return;
  const before = pointers.get(event.pointerId);
  if (page.marked) page.marked = [page.marked[0], x];
  else if (pointers.size === 1 && Math.abs(x - before) >= 1) {
    move(x - before);
    pointers.set(event.pointerId, x);
  } else if (pointers.size === 2) {
    const [other] = [...pointers].flatMap(([id, at]) => (id === event.pointerId ? [] : [at]));
    zoom(Math.max(8, Math.abs(before - other)) / Math.max(8, Math.abs(x - other)), (x + other) / 2);
    pointers.set(event.pointerId, x);
  }
});

for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => {
    pointers.delete(event.pointerId);
    const marked = page.marked;
    page.marked = null;
    dirty = true;
    if (!marked || name === "pointercancel" || Math.abs(marked[1] - marked[0]) < 4) return;
    const [from, to] = marked.map((x) => timeAt(x, page.view, canvas.clientWidth)).sort((one, other) => one - other);
    look(from, Math.max(to, from + LEAST_SPAN_S));
  });
}
canvas.addEventListener("pointerleave", () => { page.cursor = null; dirty = true; });
canvas.addEventListener("dblclick", () => live());
canvas.addEventListener("keydown", (event) => {
  const middle = canvas.clientWidth / 2, act = {
    " ": pause, "+": () => zoom(0.5, middle), "-": () => zoom(2, middle), Home: () => live(),
    ArrowLeft: () => move(canvas.clientWidth / 8), ArrowRight: () => move(-canvas.clientWidth / 8),
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

function pause() {
  if (page.follows) look(page.view.from, page.view.to);
  else live();
}

$("pause").onclick = pause;
$("closer").onclick = () => zoom(0.5, canvas.clientWidth / 2);
$("wider").onclick = () => zoom(2, canvas.clientWidth / 2);
$("span").append(element("option", { value: "", textContent: "other span", hidden: true }),
  ...SPANS_S.map((value) => element("option", { value, textContent: spanWord(value) })));
$("span").value = "10";
$("span").onchange = () => live(Number($("span").value));

function spanWord(seconds) {
  if (seconds < 1) return `${seconds * 1000} ms`;
  return seconds < 60 ? `${seconds} s` : seconds < 3600 ? `${seconds / 60} min` : `${seconds / 3600} h`;
}

// -- saving -------------------------------------------------------------------------------------------------

function download(href, ending) {
  const stamp = new Date().toISOString().replace(/\.\d+/, "").replaceAll(":", "");
  element("a", { href, download: `${page.about.meter}-${stamp}.${ending}` }).click();
}

function offer(blob, ending) {
  const href = URL.createObjectURL(blob);
  download(href, ending);
  setTimeout(() => URL.revokeObjectURL(href), 10000);
}

$("png").onclick = () => {
  if (!page.about) return;
  const width = canvas.clientWidth, band = 24, tall = height(panels, bitsOf(page.rows), width);
  const picture = element("canvas", { width: width * 2, height: (tall + band) * 2 }), paper = picture.getContext("2d");
  paper.scale(2, 2);
  paper.fillStyle = colour("--box");
  paper.fillRect(0, 0, width, tall + band);
  paper.fillStyle = colour("--ink");
  paper.font = "600 14px system-ui, sans-serif";
  paper.fillText(`${title()}${page.about.simulated ? " (simulated)" : ""}`, 10, 19);
  paper.translate(0, band);
  draw(paper, { ...scene(width, tall), cursor: null, marked: null });
  picture.toBlob((blob) => offer(blob, "png"));
};

$("csv").onclick = () => {
  if (!page.about) return;
  const { series, channels } = page.about, count = series.length;
  const head = ["time_s", "samples", "lost", "marker", ...series.flatMap((name) => [`${name}_min`, `${name}_mean`, `${name}_max`]),
                ...channels.map((name) => `${name}_j`)];
  const cells = (row) => [row[START], row[COUNT], row[LOST], row[MARKERS],
    ...series.flatMap((_, at) => [row[FIXED + at], row[FIXED + 2 * count + at], row[FIXED + count + at]]),
    ...channels.map((_, at) => row[FIXED + 3 * count + at])].map((value) => (Number.isNaN(value) ? "" : value));
  const inside = page.rows.filter((row) => row[START] >= page.view.from && row[START] < page.view.to);
  offer(new Blob([[head, ...inside.map(cells)].map((line) => line.join(",") + "\n").join("")], { type: "text/csv" }), "csv");
};

$("parquet").onclick = () => page.about && download(`/samples.parquet?${new URLSearchParams(page.view)}`, "parquet");

// -- theme, size, start ---------------------------------------------------------------------------------------

const THEMES = ["auto", "dark", "light"];

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = `◐ ${name}`;
  colours = {};
  dirty = true;
}

$("theme").onclick = () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  setTheme(next);
  try { localStorage.theme = next; } catch { /* a browser that keeps nothing */ }
};
matchMedia("(prefers-color-scheme: dark)").onchange = () => setTheme(document.documentElement.dataset.theme);
let kept = "auto";
try { kept = localStorage.theme; } catch { /* as above */ }
setTheme(THEMES.includes(kept) ? kept : "auto");
new ResizeObserver(() => {
  if (canvas.clientWidth !== width) later();
}).observe(canvas.parentElement);
connect();
frame();
