// Curves over time as SVG, made of elements only: no markup is ever built from text.

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 420;
const HEIGHT = 150;
const LEFT = 52;
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

/**
 * Draw the curves of `moments` (each `{at, tenants: {name: [..]}}`), figure number `which`, into an SVG element.
 * `say` writes a value for people. A moment without a figure is a gap.
 */
export function draw(picture, moments, which, tenants, say) {
  const first = moments.length ? moments[0].at : 0;
  const span = Math.max(1, moments.length ? moments.at(-1).at - first : 1);
  let most = 0;
  for (const moment of moments) for (const tenant of tenants) most = Math.max(most, moment.tenants[tenant]?.[which] ?? 0);
  const bound = top(most);
  const x = (at) => LEFT + ((at - first) / span) * (WIDTH - LEFT - 4);
  const y = (value) => 6 + (1 - value / bound) * (HEIGHT - 26);
  const parts = [];
  for (const part of [0, 0.5, 1]) {
    const line = svg("line", { x1: LEFT, x2: WIDTH - 4, y1: y(bound * part), y2: y(bound * part), class: "grid" });
    const label = svg("text", { x: LEFT - 6, y: y(bound * part) + 4, "text-anchor": "end" });
    label.textContent = say(bound * part);
    parts.push(line, label);
  }
  for (const [at, words, anchor] of [[first, `${Math.round(span)} s ago`, "start"], [first + span, "now", "end"]]) {
    const label = svg("text", { x: x(at), y: HEIGHT - 4, "text-anchor": anchor });
    label.textContent = words;
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
