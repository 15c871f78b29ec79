// Sections on tenants: the table, curves over time, and who made whom wait. Each is `{node, update(now)}`; `now` is the
// newest document of /api/now.

import { draw, follow } from "/charts.js";
import { make, scrolling, section, sync, table, tenantLink, write } from "/elements.js";
import { clock, count, duration } from "/words.js";

/** All tenants, or one. */
export function tenantsTable(only) {
  const view = table(
    "Tenants, who holds others up most first",
    [
      ["Tenant", "Whose work it is", (row) => tenantLink(row.tenant), "name"],
      ["Loop", "Share of the event loops' time in the last second", (row) => `${count(row.loop_share * 100)} %`, "number"],
      ["Made wait", "Time that others' ready work stood behind its own, since the loop began", (row) => duration(row.delay_caused_seconds), "number"],
      ["Waited", "Time that its ready work stood behind others'", (row) => duration(row.delay_suffered_seconds), "number"],
      ["In queue", "From the sending of its messages to their handlers, on average of the last ones", (row) => duration(row.queue_mean), "number"],
      ["Longest", "Its longest slice", (row) => duration(row.longest_seconds), "number"],
      ["Messages", "Messages handled", (row) => count(row.messages), "number"],
      ["Tokens", "Tokens of model calls", (row) => count(row.tokens), "number"],
      ["Errors", "Activities that ended with an exception", (row) => count(row.errors), "number"],
      ["Findings", "Broken rules of isolation", (row) => count(row.findings), "number"],
    ],
    (row) => row.tenant,
    "No tenant has been seen yet.",
  );
  let rows = [];
  const node = section(
    only === undefined ? "Tenants" : "Figures",
    only === undefined
      ? "Who holds others up most stands on top. Waits are upper bounds: when input became readable is not known."
      : "The loop's share is of the last second, all else since the loop began. Waits are upper bounds.",
    () => rows,
    ...view.nodes,
  );
  const update = (now) => {
    rows = (now.tenants ?? [])
      .filter((row) => only === undefined || row.tenant === only)
      .sort((a, b) => b.delay_caused_seconds - a.delay_caused_seconds || a.tenant.localeCompare(b.tenant));
    view.fill(rows);
  };
  return { node, update };
}

/**
 * Figure number `which` of the tenants over the last quarter of an hour; `say` writes a value. The legend has the values of
 * now, or of the moment at which the pointer or the arrow keys are.
 */
export function curves(title, explanation, which, say, only) {
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("tabindex", "0");
  picture.setAttribute("role", "slider");
  const when = make("p", { class: "when-read" });
  const legend = make("ul", { class: "legend" });
  let moments = [];
  const node = section(title, explanation, () => moments, picture, when, legend);
  let tenants = [];
  const read = (index) => {
    const moment = moments[index] ?? { at: 0, tenants: {} };
    const value = (tenant) => say(moment.tenants[tenant]?.[which] ?? 0);
    const newest = index === moments.length - 1;
    const at = newest ? "Now" : `At ${clock(moment.at)}`;
    write(when, at);
    picture.setAttribute("aria-label", `${title} over time`);
    picture.setAttribute("aria-valuemin", "0");
    picture.setAttribute("aria-valuemax", String(Math.max(0, moments.length - 1)));
    picture.setAttribute("aria-valuenow", String(Math.max(0, index)));
    picture.setAttribute("aria-valuetext", `${at}: ${tenants.map((tenant) => `${tenant} ${value(tenant)}`).join(", ") || "nobody"}`);
    sync(legend, tenants, (tenant) => tenant, (tenant) => make("li", {}, tenantLink(tenant), make("span")),
      (item, tenant) => write(item.lastChild, ` ${value(tenant)}`));
  };
  const cursor = follow(picture, read);
  const update = (now) => {
    moments = now.moments ?? [];
    const sums = new Map();
    for (const moment of moments)
      for (const [tenant, figures] of Object.entries(moment.tenants))
        if (only === undefined || tenant === only) sums.set(tenant, (sums.get(tenant) ?? 0) + figures[which]);
    tenants = [...sums].filter(([, sum]) => sum > 0).sort((a, b) => b[1] - a[1]).slice(0, 8).map(([tenant]) => tenant);
    draw(picture, moments, which, tenants, say);
    cursor(moments);
  };
  return { node, update };
}

/** Culprits by victims, in seconds. */
export function pairsTable(only) {
  const host = scrolling("Who made whom wait");
  let found = [];
  const node = section(
    "Who made whom wait",
    "A row for each culprit, a column for each victim: how long the victim's ready work stood behind the culprit's. Upper bounds.",
    () => found,
    host,
  );
  let before = "";
  const update = (now) => {
    found = (now.pairs ?? []).filter((pair) => only === undefined || pair.culprit === only || pair.victim === only);
    const text = JSON.stringify(found.map((pair) => [pair.culprit, pair.victim, duration(pair.seconds)]));
    if (text === before) return;
    before = text;
    host.replaceChildren(found.length ? matrix(found) : make("p", { class: "none" }, "Nobody waited for anybody."));
  };
  return { node, update };
}

function matrix(pairs) {
  const culprits = [...new Set(pairs.map((pair) => pair.culprit))];
  const victims = [...new Set(pairs.map((pair) => pair.victim))];
  const most = Math.max(...pairs.map((pair) => pair.seconds));
  const cell = (culprit, victim) => {
    const pair = pairs.find((each) => each.culprit === culprit && each.victim === victim);
    if (!pair) return make("td", { class: "number" }, "–");
    return make("td", { class: `number heat heat${Math.ceil((pair.seconds / most) * 5)}` }, duration(pair.seconds));
  };
  const head = make("tr", {}, make("th", { scope: "col" }, "made wait →"), ...victims.map((victim) => make("th", { scope: "col", class: "number" }, victim)));
  const rows = culprits.map((culprit) =>
    make("tr", {}, make("th", { scope: "row" }, tenantLink(culprit)), ...victims.map((victim) => cell(culprit, victim))),
  );
  return make("table", { class: "matrix" }, make("caption", { class: "only-heard" }, "Seconds that victims waited for culprits"), make("thead", {}, head), make("tbody", {}, ...rows));
}
