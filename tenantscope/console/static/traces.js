// Sections on traces: which conversations there are, and the tree of one. `ask(path)` gets JSON from the server, or null.

import { colour } from "/charts.js";
import { link, make, scrolling, section, sync, table, tenantLink, write } from "/elements.js";
import { clock, count, duration } from "/words.js";

const EVERY = 5; // updates: spans are asked for less often than figures

/** Calls `load` at the first update, and at each fifth from then on. */
function nowAndThen(load) {
  let due = 0;
  return () => {
    if (due++ % EVERY === 0) load();
  };
}

/** Conversations in the sidecar's store, of all tenants or of one. */
export function conversationsTable(ask, only) {
  const view = table(
    "Conversations, the newest first",
    [
      ["Began", "When its first span began", (each) => link(`#/traces/${each.trace_id}`, clock(each.at)), "name"],
      ["Tenant", "Whose it is", (each) => tenantLink(each.tenant), "text"],
      ["What", "What it began with", (each) => each.name, "text"],
      ["Took", "From its first to its last span", (each) => duration(each.seconds), "number"],
      ["Spans", "How many there are", (each) => count(each.spans), "number"],
      ["Errors", "Spans that ended with an exception", (each) => count(each.errors), "number"],
    ],
    (each) => each.trace_id,
    "There are none of several spans yet.",
  );
  let found = [];
  let all = [];
  const single = make("input", { type: "checkbox" });
  const failed = make("input", { type: "checkbox" });
  const number = make("span");
  const choice = make("p", { class: "choice" }, make("label", {}, single, " Single messages too", number), make("label", {}, failed, " Only with errors"));
  const fill = () => {
    write(number, ` (${count(all.filter((each) => each.spans === 1).length)})`);
    found = all.filter((each) => (single.checked || each.spans > 1) && (!failed.checked || each.errors > 0)).slice(0, 200);
    view.fill(found);
  };
  for (const box of [single, failed]) box.addEventListener("change", fill);
  const hint = make("p", { class: "none", hidden: "" }, "This sidecar keeps no traces: it hands them on. Look in the trace store behind your Collector.");
  const node = section("Conversations", "Traces in the sidecar's store, among its newest spans. A time leads to the tree of its spans.", () => found, choice, ...view.nodes, hint);
  const load = async () => {
    const answer = await ask("/api/traces");
    if (!answer) return;
    all = answer.conversations.filter((each) => only === undefined || each.tenant === only);
    fill();
    hint.hidden = answer.kept;
    if (!answer.kept) for (const part of [choice, ...view.nodes]) part.hidden = true;
  };
  return { node, update: nowAndThen(load) };
}

/** The spans of one trace as a tree. */
export function traceTree(ask, traceId) {
  const body = make("tbody");
  let found = [];
  const spans = make(
    "table", { class: "tree" },
    make("caption", { class: "only-heard" }, "Spans in the order of the tree"),
    make("thead", {}, make("tr", {}, ...["Span", "Tenant", "Took", "When"].map((name) => make("th", { scope: "col", class: name === "Took" ? "number" : "text" }, name)))),
    body,
  );
  const node = section(`Trace ${traceId.slice(0, 8)}`, "A line for each span, indented below the one that caused it. Open a line for its attributes.", () => found, scrolling("Trace", spans));
  const load = async () => {
    const answer = await ask(`/api/traces/${traceId}`);
    if (!answer) return;
    found = answer.spans;
    const total = Math.max(1e-9, ...found.map((span) => span.offset + span.seconds));
    if (found.length) sync(body, found, (span) => span.span_id, (span) => line(span, total), () => {});
    else body.replaceChildren(make("tr", {}, make("td", { colspan: "4" }, "The store has no span of it, or none any more.")));
  };
  return { node, update: nowAndThen(load) };
}

function line(span, total) {
  const attributes = make("dl");
  for (const [key, value] of Object.entries(span.attributes)) attributes.append(make("dt", {}, key), make("dd", {}, value));
  const failed = span.status === "error" ? [make("strong", { class: "error" }, " failed")] : [];
  const name = make("details", { class: `depth${Math.min(span.depth, 12)}` }, make("summary", {}, span.name, ...failed), attributes);
  return make(
    "tr", {},
    make("th", { scope: "row" }, make("span", { class: "only-heard" }, `level ${span.depth + 1}: `), name),
    make("td", {}, tenantLink(span.tenant)),
    make("td", { class: "number" }, duration(span.seconds)),
    make("td", { class: "when" }, bar(span, total)),
  );
}

/** Where a span lies in its trace. */
function bar(span, total) {
  const svg = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const picture = svg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", class: "bar", role: "img", "aria-label": `begins after ${duration(span.offset)}` });
  const x = (span.offset / total) * 100;
  const width = Math.max(0.6, (span.seconds / total) * 100);
  picture.append(svg("rect", { x: String(Math.min(x, 99.4)), width: String(width), height: "8", class: `fill ${colour(span.tenant)}` }));
  return picture;
}
