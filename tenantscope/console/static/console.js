// The console: asks its server once a second and brings the page up to date. Text only ever becomes text (textContent),
// so that no name of a tenant, an agent or a file can be markup.

import { colour, draw } from "/charts.js";

const EVERY = 1000; // milliseconds
const main = document.querySelector("#main");
const state = document.querySelector("#state");
const news = document.querySelector("#news");
const seconds = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

let now = null; // the newest document of /api/now
let paused = false;
let shown = ""; // the view that stands in <main>
let update = () => {}; // brings that view up to date
let heard = null; // ids of the stalls that were announced

// Words ---------------------------------------------------------------------------------------------------------------

function duration(value) {
  if (value < 0.00995) return `${seconds.format(value * 1000)} ms`;
  if (value < 0.9995) return `${whole.format(value * 1000)} ms`;
  return `${value < 100 ? seconds.format(value) : whole.format(value)} s`;
}
const percent = (value) => `${whole.format(value * 100)} %`;
const perSecond = (value) => (value >= 0.9995 ? `${seconds.format(value)} s/s` : `${whole.format(value * 1000)} ms/s`);
const clock = (at) => new Date(at * 1000).toLocaleTimeString();
/** `/a/b/demo/stage.py:176 render` as `render demo/stage.py:176`. */
function frame(text) {
  const cut = text.lastIndexOf(" ");
  return `${text.slice(cut + 1)}  ${text.slice(0, cut).split("/").slice(-2).join("/")}`;
}

// Elements ------------------------------------------------------------------------------------------------------------

/** An element with attributes and children; text children are text. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") element.addEventListener("click", value);
    else if (value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

const link = (target, text) => make("a", { href: target }, text);
const tenantLink = (tenant) =>
  make("a", { href: `#/tenants/${encodeURIComponent(tenant)}`, class: `tenant ${colour(tenant)}` }, tenant);

/** Write only what changed: a reader that is halfway through is not thrown back to the beginning. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Bring the children of `parent` in line with `items`; a child whose key stays is kept, with its focus. */
function sync(parent, items, key, create, change) {
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
function section(title, explanation, data, ...children) {
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

/** A table; `columns` are `[heading, explanation, value of a row, "text" | "number"]`. Rows are kept by their key. */
function table(caption, columns, key, empty) {
  const head = make("tr");
  for (const [name, hint, , kind] of columns) head.append(make("th", { scope: "col", class: kind, title: hint }, name));
  const body = make("tbody");
  const none = make("p", { class: "none" }, empty);
  const whole_table = make("table", {}, make("caption", { class: "only-heard" }, caption), make("thead", {}, head), body);
  const box = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, whole_table);
  const fill = (rows) => {
    box.hidden = rows.length === 0;
    none.hidden = rows.length !== 0;
    const create = () => {
      const row = make("tr");
      for (const [, , , kind] of columns) row.append(make(kind === "name" ? "th" : "td", kind === "name" ? { scope: "row" } : { class: kind }));
      return row;
    };
    sync(body, rows, key, create, (row, item) => {
      columns.forEach(([, , value], index) => {
        const cell = row.children[index];
        const wanted = value(item);
        if (wanted instanceof Node) {
          if (cell.dataset.text !== wanted.textContent + wanted.className) {
            cell.replaceChildren(wanted);
            cell.dataset.text = wanted.textContent + wanted.className;
          }
        } else write(cell, wanted);
      });
    });
  };
  return { nodes: [box, none], fill };
}

// Parts of views ------------------------------------------------------------------------------------------------------

function tenantsSection(only) {
  const view = table(
    "Tenants, the largest share of the loop first",
    [
      ["Tenant", "Whose work it is", (row) => tenantLink(row.tenant), "name"],
      ["Loop", "Share of the event loops' time in the last second", (row) => percent(row.loop_share), "number"],
      ["Waited", "Time that its ready work stood behind others', since the loop began", (row) => duration(row.delay_suffered_seconds), "number"],
      ["Made wait", "Time that others' ready work stood behind its own", (row) => duration(row.delay_caused_seconds), "number"],
      ["Longest", "Its longest slice", (row) => duration(row.longest_seconds), "number"],
      ["Messages", "Messages handled", (row) => whole.format(row.messages), "number"],
      ["Tokens", "Tokens of model calls", (row) => whole.format(row.tokens), "number"],
      ["Errors", "Activities that ended with an exception", (row) => whole.format(row.errors), "number"],
      ["Findings", "Broken rules of isolation", (row) => whole.format(row.findings), "number"],
    ],
    (row) => row.tenant,
    "No tenant has been seen yet.",
  );
  const rows = () =>
    (now.tenants ?? [])
      .filter((row) => only === undefined || row.tenant === only)
      .sort((a, b) => b.delay_caused_seconds - a.delay_caused_seconds || a.tenant.localeCompare(b.tenant));
  const node = section(
    "Tenants",
    "Who holds others up most stands on top. Waits are upper bounds: when input became readable is not known.",
    rows,
    ...view.nodes,
  );
  return { node, update: () => view.fill(rows()) };
}

function curves(title, explanation, which, say, only) {
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("role", "img");
  const legend = make("ul", { class: "legend" });
  const node = section(title, explanation, () => now.moments, picture, legend);
  return {
    node,
    update: () => {
      const moments = now.moments ?? [];
      const sums = new Map();
      for (const moment of moments)
        for (const [tenant, figures] of Object.entries(moment.tenants))
          if (only === undefined || tenant === only) sums.set(tenant, (sums.get(tenant) ?? 0) + figures[which]);
      const tenants = [...sums].filter(([, sum]) => sum > 0).sort((a, b) => b[1] - a[1]).slice(0, 8).map(([tenant]) => tenant);
      draw(picture, moments, which, tenants, say);
      const last = moments.at(-1)?.tenants ?? {};
      const words = tenants.map((tenant) => `${tenant} ${say(last[tenant]?.[which] ?? 0)}`);
      picture.setAttribute("aria-label", `${title}, now: ${words.join(", ") || "nobody"}`);
      sync(legend, tenants, (tenant) => tenant, (tenant) => make("li", {}, tenantLink(tenant), make("span")),
        (item, tenant) => write(item.lastChild, ` ${say(last[tenant]?.[which] ?? 0)}`));
    },
  };
}

function stallsSection(chosen, most = 20) {
  const list = make("ol", { class: "cards" });
  const none = make("p", { class: "none" }, "No loop has been held beyond the threshold.");
  const found = () => (now.stalls ?? []).filter(chosen).slice(0, most);
  const node = section(
    "Stalls",
    "Slices that held a loop beyond the sidecar's threshold, the newest first; the application's frames stand out.",
    found,
    list,
    none,
  );
  const create = (stall) => {
    const stack = make("ol", { class: "stack" });
    for (const text of [...stall.stack].reverse()) {
      const foreign = /\/(site|dist)-packages\/|\/lib\/python\d|^</.test(text);
      stack.append(make("li", { class: foreign ? "foreign" : "own", title: text }, frame(text)));
    }
    const details = make("details", {}, make("summary", {}, "Stack"), stack);
    if (!stall.stack.length) details.replaceChildren(make("summary", {}, "Stack"), make("p"));
    return make(
      "li", { class: "card" },
      make("h3", {}, tenantLink(stall.tenant), " ", make("span")),
      make("p", { class: "about" }),
      details,
      make("p", { class: "more" }, link(`#/stalls/${stall.id}`, `Link to stall ${stall.id}`)),
    );
  };
  const change = (card, stall) => {
    card.classList.toggle("bad", stall.active);
    write(card.querySelector("h3 span"), stall.active ? `holds the loop for ${duration(stall.seconds)} now` : `held the loop for ${duration(stall.seconds)}`);
    const victims = stall.victims.length ? `; waited: ${stall.victims.join(", ")}` : "";
    write(card.querySelector(".about"), `${stall.service}, process ${stall.pid}, noticed after ${duration(stall.detected_after_ms / 1000)}${victims}`);
    const why = card.querySelector("details p");
    if (why) write(why, stall.stack_unavailable ?? "It is not known yet.");
  };
  return {
    node,
    update: () => {
      const stalls = found();
      none.hidden = stalls.length !== 0;
      sync(list, stalls, (stall) => `${stall.id} ${stall.stack.length}`, create, change);
    },
  };
}

function pairsSection(only) {
  const host = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Who made whom wait" });
  const pairs = () => (now.pairs ?? []).filter((pair) => only === undefined || pair.culprit === only || pair.victim === only);
  const node = section(
    "Who made whom wait",
    "One row a culprit, one column a victim: how long the victim's ready work stood behind the culprit's. Upper bounds.",
    pairs,
    host,
  );
  let before = "";
  return {
    node,
    update: () => {
      const found = pairs();
      const text = JSON.stringify(found.map((pair) => [pair.culprit, pair.victim, duration(pair.seconds)]));
      if (text === before) return;
      before = text;
      if (!found.length) return host.replaceChildren(make("p", { class: "none" }, "Nobody waited for anybody."));
      const culprits = [...new Set(found.map((pair) => pair.culprit))];
      const victims = [...new Set(found.map((pair) => pair.victim))];
      const most = Math.max(...found.map((pair) => pair.seconds));
      const head = make("tr", {}, make("td", {}, "made wait →"), ...victims.map((victim) => make("th", { scope: "col" }, victim)));
      const rows = culprits.map((culprit) =>
        make("tr", {}, make("th", { scope: "row" }, tenantLink(culprit)), ...victims.map((victim) => {
          const pair = found.find((each) => each.culprit === culprit && each.victim === victim);
          if (!pair) return make("td", { class: "number" }, "–");
          return make("td", { class: `number heat heat${Math.ceil((pair.seconds / most) * 5)}` }, duration(pair.seconds));
        })),
      );
      host.replaceChildren(make("table", { class: "matrix" }, make("caption", { class: "only-heard" }, "Who made whom wait"), make("thead", {}, head), make("tbody", {}, ...rows)));
    },
  };
}

function alertsSection(chosen) {
  const list = make("ol", { class: "cards" });
  const none = make("p", { class: "none" }, "Nothing has been raised.");
  const found = () => (now.alerts ?? []).filter(chosen).slice(0, 50);
  const node = section("Alerts", "Changes of verdict as this sidecar tells them, the newest first.", found, list, none);
  const create = (alert) => {
    const at = new Date(alert.ends_at ?? alert.starts_at).toLocaleTimeString();
    const runbook = alert.annotations.runbook_url ?? "";
    const card = make(
      "li", { class: `card ${alert.status === "firing" ? "bad" : ""}` },
      make("h3", {}, `${alert.name} `, make("span", { class: `status ${alert.status}` }, alert.status)),
      make("p", {}, alert.annotations.summary ?? ""),
      make("p", { class: "about" }, `${at}, ${alert.labels.severity ?? ""} ${alert.labels.service_name ?? ""} `),
    );
    if (/^https?:\/\//.test(runbook)) card.lastChild.append(make("a", { href: runbook, rel: "noreferrer" }, "Runbook"));
    if (alert.labels.tenant_id) card.lastChild.append(" ", tenantLink(alert.labels.tenant_id));
    return card;
  };
  return {
    node,
    update: () => {
      const alerts = found();
      none.hidden = alerts.length !== 0;
      sync(list, alerts, (each) => JSON.stringify([each.name, each.labels, each.status, each.starts_at]), create, () => {});
    },
  };
}

function conversationsSection(only) {
  const view = table(
    "Conversations, the newest first",
    [
      ["Began", "When its first span began", (each) => link(`#/traces/${each.trace_id}`, clock(each.at)), "name"],
      ["Tenant", "Whose it is", (each) => tenantLink(each.tenant), "text"],
      ["What", "What it began with", (each) => each.name, "text"],
      ["Took", "From its first to its last span", (each) => duration(each.seconds), "number"],
      ["Spans", "How many there are", (each) => whole.format(each.spans), "number"],
      ["Errors", "Spans that ended with an exception", (each) => whole.format(each.errors), "number"],
    ],
    (each) => each.trace_id,
    "There are none yet.",
  );
  let found = [];
  const hint = make("p", { class: "none", hidden: "" }, "This sidecar keeps no traces: it hands them on. Look in the trace store behind your Collector.");
  const node = section("Conversations", "Traces in the sidecar's store, of the newest spans. Several spans are a conversation.", () => found, ...view.nodes, hint);
  const load = async () => {
    const answer = await ask("/api/traces");
    if (!answer) return;
    found = answer.conversations.filter((each) => only === undefined || each.tenant === only).slice(0, 200);
    view.fill(found);
    hint.hidden = answer.kept;
    if (!answer.kept) for (const part of view.nodes) part.hidden = true;
  };
  let due = 0;
  return { node, update: () => { if (due++ % 5 === 0) load(); } };
}

function traceView(traceId) {
  const body = make("tbody");
  let found = [];
  const table_of_spans = make(
    "table", { class: "tree" },
    make("caption", { class: "only-heard" }, "Spans in the order of the tree"),
    make("thead", {}, make("tr", {}, ...["Span", "Tenant", "Took", "When"].map((name) => make("th", { scope: "col" }, name)))),
    body,
  );
  const node = section(`Conversation ${traceId.slice(0, 8)}`, "One line a span, indented below the one that caused it. Open a line for its attributes.", () => found,
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Trace" }, table_of_spans));
  const load = async () => {
    const answer = await ask(`/api/traces/${traceId}`);
    if (!answer) return;
    found = answer.spans;
    const total = Math.max(1e-9, ...found.map((span) => span.offset + span.seconds));
    if (!found.length) body.replaceChildren(make("tr", {}, make("td", { colspan: "4" }, "The store has no span of it any more.")));
    else sync(body, found, (span) => span.span_id, (span) => {
      const attributes = make("dl");
      for (const [key, value] of Object.entries(span.attributes)) attributes.append(make("dt", {}, key), make("dd", {}, value));
      const name = make("details", {}, make("summary", {}, span.name, span.status === "error" ? make("strong", { class: "error" }, " failed") : ""), attributes);
      name.classList.add(`depth${Math.min(span.depth, 12)}`);
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      bar.setAttribute("viewBox", "0 0 100 8");
      bar.setAttribute("preserveAspectRatio", "none");
      bar.setAttribute("class", "bar");
      bar.setAttribute("role", "img");
      bar.setAttribute("aria-label", `begins after ${duration(span.offset)}`);
      const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      rect.setAttribute("x", String((span.offset / total) * 100));
      rect.setAttribute("width", String(Math.max(0.6, (span.seconds / total) * 100)));
      rect.setAttribute("height", "8");
      rect.setAttribute("class", `fill ${colour(span.tenant)}`);
      bar.append(rect);
      return make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, tenantLink(span.tenant)), make("td", { class: "number" }, duration(span.seconds)), make("td", { class: "when" }, bar));
    }, () => {});
  };
  let due = 0;
  return { node, update: () => { if (due++ % 5 === 0) load(); } };
}

// Views ---------------------------------------------------------------------------------------------------------------

const all = () => true;
const views = {
  now: () => ["Now", [
    tenantsSection(),
    curves("Share of the loop", "Part of the time in which each tenant had an event loop.", 0, percent),
    curves("Made others wait", "Seconds per second that others' ready work stood behind this tenant's.", 2, perSecond),
    curves("Waited", "Seconds per second that this tenant's ready work stood behind others'.", 1, perSecond),
    stallsSection(all, 10),
    pairsSection(),
  ]],
  conversations: () => ["Conversations", [conversationsSection()]],
  alerts: () => ["Alerts", [alertsSection(all)]],
  tenants: (tenant) => [tenant, [
    tenantsSection(tenant),
    curves("Share of the loop", "Part of the time in which the tenant had an event loop.", 0, percent, tenant),
    curves("Made others wait", "Seconds per second that others' ready work stood behind its own.", 2, perSecond, tenant),
    curves("Waited", "Seconds per second that its ready work stood behind others'.", 1, perSecond, tenant),
    stallsSection((stall) => stall.tenant === tenant || stall.victims.includes(tenant)),
    pairsSection(tenant),
    alertsSection((alert) => alert.labels.tenant_id === tenant),
    conversationsSection(tenant),
  ]],
  stalls: (id) => [`Stall ${id}`, [stallsSection((stall) => String(stall.id) === id)]],
  traces: (id) => ["Conversation", [traceView(id)]],
};

function show() {
  const [, name = "", rest = ""] = location.hash.split("/");
  let about = rest;
  try {
    about = decodeURIComponent(rest);
  } catch {
    // An address that was cut short: shown as it is.
  }
  const view = Object.hasOwn(views, name) ? name : "now";
  const [title, parts] = views[view](about);
  document.title = `${title} · tenantscope`;
  for (const each of document.querySelectorAll("nav a")) {
    if (each.dataset.view === view) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
  main.replaceChildren(...(view === "now" ? [] : [make("h2", { class: "where" }, title)]), ...parts.map((part) => part.node));
  if (view === "stalls") main.querySelector("section").dataset.open = "";
  update = () => {
    for (const part of parts) part.update();
    for (const details of main.querySelectorAll("section[data-open] details:not([data-seen])")) {
      details.open = true;
      details.dataset.seen = "";
    }
  };
  if (now) update();
  if (shown && shown !== location.hash) main.focus({ preventScroll: false });
  shown = location.hash || "#/";
}

// The life of the page ------------------------------------------------------------------------------------------------

async function ask(path) {
  try {
    const response = await fetch(path, { cache: "no-store" });
    const answer = await response.json();
    if (response.ok) return answer;
    write(state, answer.error ?? "The console does not answer.");
  } catch {
    write(state, "The console has ended, or the way to it is cut.");
    state.className = "bad";
  }
  return null;
}

function announce() {
  const active = (now.stalls ?? []).filter((stall) => stall.active);
  const fresh = active.filter((stall) => heard !== null && !heard.has(stall.id));
  heard = new Set((now.stalls ?? []).map((stall) => stall.id));
  if (fresh.length) write(news, fresh.map((stall) => `${stall.tenant} holds the event loop of ${stall.service}`).join("; "));
  const loops = now.loops ?? [];
  const words = now.error
    ? `No sidecar: ${now.error}`
    : active.length
      ? `${active.map((stall) => stall.tenant).join(", ")} ${active.length > 1 ? "hold" : "holds"} a loop now`
      : `${loops.length} ${loops.length === 1 ? "loop" : "loops"} under watch`;
  write(state, words);
  state.className = now.error || active.length ? "bad" : "good";
}

async function tick() {
  if (!paused && !document.hidden) {
    const answer = await ask("/api/now");
    if (answer) {
      now = answer;
      announce();
      update();
    }
  }
  setTimeout(tick, EVERY);
}

const themeButton = document.querySelector("#theme");
function theme(name) {
  document.documentElement.dataset.theme = name;
  write(themeButton, name === "dark" ? "Light" : "Dark");
}
theme(localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
themeButton.addEventListener("click", () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", next);
  theme(next);
});
document.querySelector("#pause").addEventListener("click", (event) => {
  paused = !paused;
  event.target.setAttribute("aria-pressed", String(paused));
  write(event.target, paused ? "Go on" : "Pause");
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the view
  main.focus();
});
addEventListener("hashchange", show);
show();
tick();
