// Elements of the page. Text only ever becomes text (textContent), so that no name of a tenant, an agent or a file can be
// markup; what did not change is not touched, so that focus, selection and a screen reader stay where they are.

import { colour } from "/charts.js";

/** An element with attributes and children; text children are text. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export const link = (target, text) => make("a", { href: target }, text);
export const tenantLink = (tenant) =>
  make("a", { href: `#/tenants/${encodeURIComponent(tenant)}`, class: `tenant ${colour(tenant)}` }, tenant);

/** A box that scrolls sideways when its content is wider; the keyboard reaches it. */
export const scrolling = (label, ...children) =>
  make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, ...children);

/** Write only what changed: a reader that is halfway through is not thrown back to the beginning. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Bring the children of `parent` in line with `items`; a child whose key stays is kept, with its focus. */
export function sync(parent, items, key, create, change) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let after = null;
  for (const item of items) {
    const id = String(key(item));
    let child = old.get(id);
    if (!child) {
      child = create(item);
      child.dataset.key = id;
    }
    old.delete(id);
    change(child, item);
    const wanted = after ? after.nextSibling : parent.firstChild;
    if (child !== wanted) parent.insertBefore(child, wanted);
    after = child;
  }
  for (const child of old.values()) child.remove();
}

/** A section with a heading, a line that explains it, and a button that copies its data. */
export function section(title, explanation, data, ...children) {
  const id = `h-${title.replace(/\W+/g, "-").toLowerCase()}`;
  const copy = make("button", { type: "button", class: "copy", "aria-label": `Copy ${title} as JSON` }, "Copy as JSON");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(JSON.stringify(data(), null, 2));
      write(copy, "Copied");
    } catch {
      write(copy, "The browser refused");
    }
    setTimeout(() => write(copy, "Copy as JSON"), 1500);
  });
  const head = make("div", { class: "head" }, make("h2", { id }, title), copy);
  return make("section", { "aria-labelledby": id }, head, make("p", { class: "hint" }, explanation), ...children);
}

/** A table; `columns` are `[heading, explanation, value of a row, "name" | "text" | "number"]`. Rows are kept by their key. */
export function table(caption, columns, key, empty) {
  const head = make("tr");
  for (const [name, hint, , kind] of columns) head.append(make("th", { scope: "col", class: kind, title: hint }, name));
  const body = make("tbody");
  const none = make("p", { class: "none" }, empty);
  const whole = make("table", {}, make("caption", { class: "only-heard" }, caption), make("thead", {}, head), body);
  const box = scrolling(caption, whole);
  const create = () => {
    const row = make("tr");
    for (const [, , , kind] of columns)
      row.append(make(kind === "name" ? "th" : "td", kind === "name" ? { scope: "row" } : { class: kind }));
    return row;
  };
  const fill = (rows) => {
    box.hidden = rows.length === 0;
    none.hidden = rows.length !== 0;
    sync(body, rows, key, create, (row, item) => {
      columns.forEach(([, , value], index) => {
        const cell = row.children[index];
        const wanted = value(item);
        if (!(wanted instanceof Node)) write(cell, wanted);
        else if (cell.dataset.text !== wanted.textContent + wanted.className) {
          cell.replaceChildren(wanted);
          cell.dataset.text = wanted.textContent + wanted.className;
        }
      });
    });
  };
  return { nodes: [box, none], fill };
}
