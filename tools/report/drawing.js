// Draws the boxes of #network with `dagre`, which stands above. A group (layers of one scope) is one box until
// it is opened; then its layers stand in a frame.
const { boxes } = JSON.parse(document.getElementById("network").textContent);
const canvas = document.getElementById("canvas");
const details = document.getElementById("details");
const SVG = "http://www.w3.org/2000/svg";
const MANY = 90; // boxes that a person can still look over; with more, groups start closed
const WIDTH = [130, 300], HEIGHT = 62, PAD = 12, LABEL = 10; // px

const root = commonScope();
const groups = findGroups();
const closed = new Set(groups.keys());
let drawn = { nodes: new Map(), edges: [], width: 0, height: 0 };
let chosen = null, scale = 1;

function commonScope() { // what more than half of the names begin with: the network's own name
  const counts = new Map();
  for (const { name } of boxes) {
    const scope = name.split("/")[0];
    if (scope !== name) counts.set(scope, (counts.get(scope) ?? 0) + 1);
  }
  return [...counts.keys()].find(scope => counts.get(scope) > boxes.length / 2);
}

function findGroups() {
  const members = new Map();
  boxes.forEach((box, id) => {
    const parts = box.name.split("/");
    for (let length = 1; length < parts.length; length++) {
      const path = parts.slice(0, length).join("/");
      members.set(path, [...(members.get(path) ?? []), id]);
    }
  });
  const layers = boxes.filter(box => box.kind !== "end").length;
  for (const [path, ids] of members) {
    // what encloses all, one layer only, or the same as a group inside it, is no group of its own
    const inner = [...members].some(([other, its]) => other.startsWith(path + "/") && its.length === ids.length);
    if (ids.length < 2 || ids.length > layers - 3 || inner) members.delete(path);
  }
  return members;
}

function enclosing(name) { // the groups around a box or a group, outermost first
  return [...groups.keys()].filter(path => name.startsWith(path + "/")).sort((a, b) => a.length - b.length);
}

function within(name, group) { // the name as it is called inside a group, or in the whole network
  const scope = group ?? root;
  return name.startsWith(scope + "/") ? name.slice(scope.length + 1) : name;
}

function standsFor(id) { // the box, or the outermost closed group around it
  return enclosing(boxes[id].name).find(path => closed.has(path)) ?? id;
}

function openSome() { // whole levels, as long as there are not too many boxes
  const depth = path => enclosing(path).length;
  for (let level = 0; closed.size; level++) {
    const opened = [...closed].filter(path => depth(path) === level);
    opened.forEach(path => closed.delete(path));
    if (new Set(boxes.map((_, id) => standsFor(id))).size > MANY) {
      opened.forEach(path => closed.add(path));
      return;
    }
  }
}

function contentOf(key) {
  if (typeof key === "number") {
    const { name, operation, output, params, macs, kind, share } = boxes[key];
    const numbers = [output, params && `${short(params)} params`, macs && `${short(macs)} MACs`];
    return { name, what: operation, numbers: numbers.filter(Boolean).join(", "), kind, share };
  }
  const ids = groups.get(key);
  const sum = of => ids.reduce((total, id) => total + (boxes[id][of] ?? 0), 0);
  const numbers = `${short(sum("params"))} params, ${short(sum("macs"))} MACs`;
  return { name: key, what: `+ ${ids.length} layers`, numbers, kind: "product group", share: sum("share") };
}

function short(value) {
  const unit = [["G", 1e9], ["M", 1e6], ["k", 1e3]].find(([, size]) => value >= size) ?? ["", 1];
  const scaled = value / unit[1];
  return `${unit[1] > 1 && scaled < 100 ? scaled.toPrecision(3) : Math.round(scaled)}${unit[0] && "\u00a0" + unit[0]}`;
}

const pen = document.createElement("canvas").getContext("2d");
function fitted(text, size, weight, width) { // the text, cut to a width in px, and the width that it takes
  pen.font = `${weight} ${size}px ${getComputedStyle(document.body).fontFamily}`;
  if (pen.measureText(text).width <= width) return [text, pen.measureText(text).width];
  let length = text.length;
  while (length && pen.measureText(text.slice(0, length) + "…").width > width) length--;
  return [text.slice(0, length) + "…", width];
}

function layOut() {
  const keys = [...new Set(boxes.map((_, id) => standsFor(id)))];
  const frames = [...groups.keys()].filter(path => [path, ...enclosing(path)].every(one => !closed.has(one)));
  const parent = key => enclosing(typeof key === "number" ? boxes[key].name : key).at(-1);
  const nodes = frames.map(path => ({ v: path, width: 0, height: 0, parent: parent(path) }));
  for (const key of keys) {
    const content = contentOf(key);
    const around = parent(key);
    const lines = [[within(content.name, around), 13, 600], [content.what, 11.5, 400], [content.numbers, 11.5, 400]]
      .map(line => fitted(...line, WIDTH[1] - 2 * PAD));
    const width = Math.max(WIDTH[0], ...lines.map(line => line[1] + 2 * PAD));
    nodes.push({ v: String(key), key, width, height: HEIGHT, parent: around, content, lines: lines.map(line => line[0]) });
  }
  const edges = new Map();
  boxes.forEach((box, id) => box.inputs.forEach(input => {
    const [v, w] = [String(standsFor(input)), String(standsFor(id))];
    if (v !== w) edges.set(`${v}\n${w}`, { v, w, minlen: 1, weight: 1, width: 0, height: 0, labeloffset: 10, labelpos: "r" });
  }));
  const ranker = nodes.length > 300 ? "tight-tree" : "network-simplex"; // half the time for NASNet's 600 layers
  const options = { nodesep: 18, ranksep: 26, ranker };
  const list = [...edges.values()];
  dagre.layout(nodes, list, options, {});
  const right = Math.max(...nodes.map(node => node.x + node.width / 2));
  const bottom = Math.max(...nodes.map(node => node.y + node.height / 2));
  const shown = new Map(nodes.filter(node => node.content).map(node => [node.v, node]));
  return { nodes: shown, frames: nodes.filter(node => !node.content), edges: list, width: right + 16, height: bottom + 16 };
}

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
}

function draw() {
  drawn = layOut();
  const svg = element("svg", { viewBox: `-8 -8 ${drawn.width} ${drawn.height}` });
  svg.innerHTML = `<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"
    orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="context-stroke"/></marker></defs>`;
  for (const frame of drawn.frames) drawFrame(frame, svg);
  for (const edge of drawn.edges) {
    const points = edge.points.map(point => `${point.x.toFixed(1)} ${point.y.toFixed(1)}`);
    edge.path = element("path", { class: "edge", d: `M${points.join("L")}`, "marker-end": "url(#tip)" }, svg);
  }
  for (const node of drawn.nodes.values()) drawBox(node, svg);
  canvas.replaceChildren(svg);
  zoom(scale);
  mark();
}

function drawFrame({ v, x, y, width, height }, svg) {
  const g = element("g", { class: "frame" }, svg);
  const inside = drawn.frames.filter(frame => frame.v.startsWith(v + "/")).map(frame => enclosing(frame.v).length);
  const room = LABEL * (1 + Math.max(0, ...inside.map(depth => depth - enclosing(v).length))); // and for labels inside
  const [left, top] = [x - width / 2, y - height / 2 - room];
  element("rect", { x: left, y: top, width, height: height + room, rx: 8 }, g);
  const label = element("text", { x: left + 8, y: top + 14 }, g);
  label.textContent = `− ${within(v, enclosing(v).at(-1))}`;
  label.addEventListener("click", () => toggle(v));
}

function drawBox(node, svg) {
  const { key, content, lines, width, height } = node;
  const g = element("g", { class: `box ${content.kind}`, tabindex: -1, role: "button" }, svg);
  g.setAttribute("transform", `translate(${node.x - width / 2} ${node.y - height / 2})`);
  g.setAttribute("aria-label", `${content.name}: ${content.what}, ${content.numbers}`);
  element("title", {}, g).textContent = `${content.name}\n${content.what}\n${content.numbers}`;
  element("rect", { class: "outline", width, height, rx: 5 }, g);
  element("rect", { class: "mark", width: 4, height, rx: 2 }, g);
  element("rect", { class: "share", x: 4, y: height - 4, width: (width - 6) * content.share, height: 3 }, g);
  lines.forEach((line, row) => {
    element("text", { class: ["name", "what", "numbers"][row], x: PAD, y: 18 + 17 * row }, g).textContent = line;
  });
  node.element = g;
  g.addEventListener("click", () => choose(key));
  g.addEventListener("dblclick", () => toggle(key));
  g.addEventListener("focus", () => choose(key));
}

function toggle(path) {
  if (typeof path === "number") return;
  if (closed.has(path)) closed.delete(path);
  else closed.add(path);
  draw();
  const first = closed.has(path) ? path : standsFor(groups.get(path)[0]);
  go(first);
}

function choose(key) {
  chosen = key;
  mark();
  showDetails(key);
}

function go(key) { // to a box that may be inside a closed group
  if (typeof key === "number" && standsFor(key) !== key) {
    enclosing(boxes[key].name).forEach(path => closed.delete(path));
    draw();
  }
  drawn.nodes.get(String(key)).element.focus({ preventScroll: true });
  choose(key);
  center(key);
}

function center(key) {
  const { x, y } = drawn.nodes.get(String(key));
  canvas.scrollTo((x + 8) * scale - canvas.clientWidth / 2, (y + 8) * scale - canvas.clientHeight / 2);
}

function mark() {
  const wanted = search.value.trim().toLowerCase();
  for (const [v, node] of drawn.nodes) {
    node.element.classList.toggle("chosen", v === String(chosen));
    node.element.classList.toggle("found", Boolean(wanted) && holds(node.key, wanted));
    node.element.setAttribute("tabindex", -1);
  }
  const start = drawn.nodes.get(String(chosen)) ?? drawn.nodes.values().next().value;
  start?.element.setAttribute("tabindex", 0); // the one that Tab reaches; arrows do the rest
  for (const { v, w, path } of drawn.edges) path.classList.toggle("near", [v, w].includes(String(chosen)));
}

function holds(key, wanted) {
  const ids = typeof key === "number" ? [key] : groups.get(key);
  return ids.some(id => boxes[id].name.toLowerCase().includes(wanted));
}

function html(name, text, parent, attributes = {}) {
  const made = Object.assign(document.createElement(name), attributes);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function showDetails(key) {
  const content = contentOf(key);
  details.replaceChildren();
  html("h3", content.name, details);
  const facts = html("dl", undefined, details, { className: "facts" });
  const rows = typeof key === "number" ? boxes[key].facts : [["layers", groups.get(key).length], ["sum", content.numbers]];
  for (const [term, value] of rows) {
    html("dt", term, facts);
    html("dd", value, facts);
  }
  if (typeof key !== "number") html("button", "Open", details, { type: "button", onclick: () => toggle(key) });
  const [into, outOf] = [neighbours(key, -1), neighbours(key, 1)];
  for (const [title, keys] of [["reads", into], ["feeds", outOf]]) {
    if (!keys.length) continue;
    html("h4", title, details);
    const list = html("ul", undefined, details);
    for (const one of keys) {
      html("button", contentOf(one).name, html("li", undefined, list), { type: "button", onclick: () => go(one) });
    }
  }
  if (typeof key === "number" && boxes[key].nodes.length > 1) {
    html("h4", "operations in the file", details);
    const list = html("ul", undefined, details);
    boxes[key].nodes.forEach(name => html("code", name, html("li", undefined, list)));
  }
}

function neighbours(key, direction) {
  const [mine, other] = direction < 0 ? ["w", "v"] : ["v", "w"];
  return drawn.edges.filter(edge => edge[mine] === String(key)).map(edge => drawn.nodes.get(edge[other]).key);
}

function beside(key, direction) { // the nearest box of about the same height, to the left or right
  const here = drawn.nodes.get(String(key));
  const row = [...drawn.nodes.values()].filter(node => Math.abs(node.y - here.y) < HEIGHT && (node.x - here.x) * direction > 1);
  return row.sort((a, b) => Math.abs(a.x - here.x) - Math.abs(b.x - here.x))[0]?.key;
}

function zoom(to, at = { x: canvas.clientWidth / 2, y: canvas.clientHeight / 2 }) {
  const before = { x: (canvas.scrollLeft + at.x) / scale, y: (canvas.scrollTop + at.y) / scale };
  scale = Math.min(3, Math.max(0.05, to));
  const svg = canvas.firstElementChild;
  svg.style.width = `${drawn.width * scale}px`;
  svg.style.height = `${drawn.height * scale}px`;
  canvas.scrollTo(before.x * scale - at.x, before.y * scale - at.y);
}

function fitWidth() { // to the width, but never so that text cannot be read
  zoom(Math.min(1, Math.max(0.7, (canvas.clientWidth - 20) / drawn.width)));
  const first = drawn.nodes.values().next().value;
  canvas.scrollTo((first.x + 8) * scale - canvas.clientWidth / 2, 0);
}

const search = document.getElementById("search");
let hits = [], hit = -1;
search.addEventListener("input", () => {
  const wanted = search.value.trim().toLowerCase();
  hits = wanted ? boxes.map((_, id) => id).filter(id => holds(id, wanted)) : [];
  hit = -1;
  document.getElementById("found").textContent = wanted ? `${hits.length} found` : "";
  mark();
});
search.addEventListener("keydown", event => {
  if (event.key === "Enter" && hits.length) {
    hit = (hit + (event.shiftKey ? hits.length - 1 : 1)) % hits.length;
    go(hits[hit]);
    search.focus({ preventScroll: true });
    document.getElementById("found").textContent = `${hit + 1} of ${hits.length}`;
  }
});

const KEYS = {
  ArrowUp: key => neighbours(key, -1)[0],
  ArrowDown: key => neighbours(key, 1)[0],
  ArrowLeft: key => beside(key, -1),
  ArrowRight: key => beside(key, 1),
};
canvas.addEventListener("keydown", event => {
  if (event.key === "Enter" || event.key === " ") toggle(chosen);
  else if (event.key === "+") zoom(scale * 1.25);
  else if (event.key === "-") zoom(scale / 1.25);
  else if (event.key in KEYS) {
    const next = KEYS[event.key](chosen);
    if (next !== undefined) go(next);
  } else return;
  event.preventDefault();
});
document.addEventListener("keydown", event => {
  if (event.key === "/" && document.activeElement !== search) {
    event.preventDefault();
    search.focus();
  }
});
canvas.addEventListener("wheel", event => {
  if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls
  event.preventDefault();
  const { left, top } = canvas.getBoundingClientRect();
  zoom(scale * Math.exp(-event.deltaY / 300), { x: event.clientX - left, y: event.clientY - top });
}, { passive: false });
let drag = null;
canvas.addEventListener("pointerdown", event => {
  if (event.pointerType === "mouse") drag = { x: event.clientX, y: event.clientY, left: canvas.scrollLeft, top: canvas.scrollTop };
});
addEventListener("pointermove", event => {
  if (drag) canvas.scrollTo(drag.left - event.clientX + drag.x, drag.top - event.clientY + drag.y);
});
addEventListener("pointerup", () => { drag = null; });

document.getElementById("larger").onclick = () => zoom(scale * 1.25);
document.getElementById("smaller").onclick = () => zoom(scale / 1.25);
document.getElementById("fit").onclick = fitWidth;
for (const [id, change] of [["open", () => closed.clear()], ["close", () => groups.forEach((_, path) => closed.add(path))]]) {
  const button = document.getElementById(id);
  button.hidden = groups.size === 0;
  button.onclick = () => { change(); draw(); fitWidth(); };
}

openSome();
draw();
fitWidth();
