// Curves over time as SVG, made of elements only: no markup is ever built from text. A moment can be read off with the
// pointer or the arrow keys.

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 420;
const HEIGHT = 150;
const LEFT = 56;
const RIGHT = 4; // free at the right
const TOP = 8;
const BOTTOM = 20;
const COLOURS = 8;

/** An SVG element with attributes. */
function svg(name, attributes = {}) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

const colours = new Map();

/** A tenant's colour: the next one that is free when it is first seen, the same in every picture from then on. */
export function colour(tenant) {
  if (!colours.has(tenant)) colours.set(tenant, colours.size % COLOURS);
  return `c${colours.get(tenant)}`;
}

/** A round number that is not below `most`: the top of an axis. */
function top(most) {
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((step) => step * power).find((bound) => bound >= most);
}

/** From a moment's time to its place on the axis. */
function scale(moments) {
  const first = moments.length ? moments[0].at : 0;
  const span = Math.max(1, moments.length ? moments.at(-1).at - first : 1);
  return { span, x: (at) => LEFT + ((at - first) / span) * (WIDTH - LEFT - RIGHT) };
}

/** `45 s ago`, `12 min ago`. */
const ago = (seconds) => (seconds < 90 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`);

/**
 * Draw the curves of `moments` (each `{at, tenants: {name: [..]}}`), figure number `which`, into an SVG element.
 * `say` writes a value for people. A moment without a figure is a gap.
 */
export function draw(picture, moments, which, tenants, say) {
  const { span, x } = scale(moments);
  let most = 0;
  for (const moment of moments) for (const tenant of tenants) most = Math.max(most, moment.tenants[tenant]?.[which] ?? 0);
  const bound = top(most);
  const y = (value) => TOP + (1 - value / bound) * (HEIGHT - TOP - BOTTOM);
  const parts = [];
  for (const part of [0, 0.5, 1]) {
    const line = svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(bound * part), y2: y(bound * part), class: "grid" });
    const label = svg("text", { x: LEFT - 6, y: y(bound * part) + 4, "text-anchor": "end" });
    label.textContent = say(bound * part);
    parts.push(line, label);
  }
  for (const [part, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
    const label = svg("text", { x: LEFT + part * (WIDTH - LEFT - RIGHT), y: HEIGHT - 4, "text-anchor": anchor });
    label.textContent = part === 1 ? "now" : ago(span * (1 - part));
    parts.push(label);
  }
  for (const tenant of tenants) {
    let path = "";
    let pen = "M";
    for (const moment of moments) {
      const value = moment.tenants[tenant]?.[which];
      if (value === undefined) {
        pen = "M";
        continue;
      }
      path += `${pen}${x(moment.at).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    }
    if (path) parts.push(svg("path", { d: path, class: `curve ${colour(tenant)}` }));
  }
  picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  picture.replaceChildren(...parts);
}

/**
 * Lets a reader choose a moment of a picture: by pointing at it, or with the arrow keys, Home and End; Escape and leaving go
 * back to the newest. `read(index)` is told which. Returns what to call after each drawing, with its moments.
 */
export function follow(picture, read) {
  let moments = [];
  let at = null; // time of the chosen moment; null: the newest
  const mark = svg("line", { y1: TOP, y2: HEIGHT - BOTTOM, class: "mark" });
  const index = () => {
    if (at === null) return moments.length - 1;
    const found = moments.findIndex((moment) => moment.at >= at);
    return found < 0 ? moments.length - 1 : found;
  };
  const show = () => {
    if (at === null || !moments.length) mark.remove();
    else {
      const x = scale(moments).x(moments[index()].at);
      mark.setAttribute("x1", x);
      mark.setAttribute("x2", x);
      if (mark.parentNode !== picture) picture.append(mark);
    }
    read(index());
  };
  const choose = (wanted) => {
    at = wanted >= moments.length - 1 ? null : (moments[Math.max(0, wanted)]?.at ?? null);
    show();
  };
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * WIDTH;
    const part = (x - LEFT) / (WIDTH - LEFT - RIGHT);
    if (!moments.length) return;
    const time = moments[0].at + Math.min(1, Math.max(0, part)) * scale(moments).span;
    const found = moments.findIndex((moment) => moment.at >= time - 0.001);
    choose(found < 0 ? moments.length - 1 : found);
  });
  picture.addEventListener("pointerleave", () => choose(Infinity));
  picture.addEventListener("keydown", (event) => {
    const keys = { ArrowLeft: index() - 1, ArrowRight: index() + 1, Home: 0, End: Infinity, Escape: Infinity };
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    choose(keys[event.key]);
  });
  return (drawn) => {
    moments = drawn;
    show();
  };
}
