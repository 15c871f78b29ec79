// Sections on what went wrong: stalls with their stacks, and alerts. Each is `{node, update(now)}`.

import { link, make, section, sync, tenantLink, write } from "/elements.js";
import { clock, duration, foreign, frame } from "/words.js";

const REMEMBERED = "The sidecar remembers the newest only: look for its alert where alerts go.";

/** The newest stalls that `chosen` takes, at most `most`; `opened`: with their stacks open. */
export function stallCards(chosen, { most = 20, opened = false, empty = "No loop has been held beyond the threshold." } = {}) {
  const list = make("ol", { class: "cards" });
  const none = make("p", { class: "none" }, empty);
  let stalls = [];
  const node = section(
    "Stalls",
    "Slices that held a loop beyond the sidecar's threshold, the newest first. In a stack the innermost call stands first, and the application's own lines stand out.",
    () => stalls,
    list,
    none,
  );
  const update = (now) => {
    stalls = (now.stalls ?? []).filter(chosen).slice(0, most);
    none.hidden = stalls.length !== 0;
    sync(list, stalls, (stall) => stall.id, (stall) => card(stall, opened), change);
  };
  return { node, update };
}

/** One stall, by its id. */
export const oneStall = (id) =>
  stallCards((stall) => String(stall.id) === id, { opened: true, empty: `There is no stall ${id} here. ${REMEMBERED}` });

function card(stall, opened) {
  return make(
    "li", { class: "card" },
    make("h3", {}, tenantLink(stall.tenant), " ", make("span")),
    make("p", { class: "about" }),
    make("details", opened ? { open: "" } : {}, make("summary")),
    make("p", { class: "more" }, link(`#/stalls/${stall.id}`, `Link to stall ${stall.id}`)),
  );
}

function change(element, stall) {
  element.classList.toggle("bad", stall.active);
  const held = stall.active ? `holds the loop for ${duration(stall.seconds)} now` : `held the loop for ${duration(stall.seconds)}`;
  write(element.querySelector("h3 span"), held);
  const began = stall.began_at ? `${clock(Date.parse(stall.began_at) / 1000)}, ` : "";
  const victims = stall.victims.length ? `; waited: ${stall.victims.join(", ")}` : "";
  write(element.querySelector(".about"), `${began}${stall.service}, process ${stall.pid}, noticed after ${duration(stall.detected_after_ms / 1000)}${victims}`);
  const details = element.querySelector("details");
  const text = stall.stack.length ? stall.stack.join("\n") : (stall.stack_unavailable ?? "It is not known yet.");
  if (details.dataset.text === text) return;
  details.dataset.text = text;
  details.replaceChildren(...(stall.stack.length ? stack([...stall.stack].reverse()) : [make("summary", {}, "No stack"), make("p", {}, text)]));
}

/** The application's innermost line as a summary, and all lines below it; `lines`: the innermost first. */
function stack(lines) {
  const { name, place } = frame(lines.find((text) => !foreign(text)) ?? lines[0]);
  return [
    make("summary", {}, "in ", make("code", {}, name), `, ${place}`),
    make("ol", { class: "stack" }, ...lines.map((text) => {
      const each = frame(text);
      return make("li", { class: foreign(text) ? "foreign" : "own", title: text }, `${each.name}  ${each.place}`);
    })),
  ];
}

/** The newest alerts that `chosen` takes. */
export function alertCards(chosen) {
  const list = make("ol", { class: "cards" });
  const none = make("p", { class: "none" }, "Nothing has been raised.");
  let alerts = [];
  const node = section("Alerts", "What this sidecar has raised, as it stands now, the newest first.", () => alerts, list, none);
  const create = (alert) => {
    const at = clock(Date.parse(alert.ends_at ?? alert.starts_at) / 1000);
    const runbook = alert.annotations.runbook_url ?? "";
    const about = make("p", { class: "about" }, [at, alert.labels.severity, alert.labels.service_name].filter(Boolean).join(", "));
    if (/^https?:\/\//.test(runbook)) about.append(" · ", make("a", { href: runbook, rel: "noreferrer" }, "Runbook"));
    const whose = alert.labels.tenant_id ? [tenantLink(alert.labels.tenant_id), " "] : [];
    return make(
      "li", { class: `card ${alert.status === "firing" ? "bad" : ""}` },
      make("h3", {}, ...whose, `${alert.name} `, make("span", { class: `status ${alert.status}` }, alert.status)),
      make("p", {}, alert.annotations.summary ?? ""),
      about,
    );
  };
  const update = (now) => {
    // One card each: what was raised and is over stands there as it ended, and not as if it still burned.
    const newest = new Map();
    for (const alert of (now.alerts ?? []).filter(chosen)) {
      const which = JSON.stringify([alert.name, alert.labels, alert.starts_at]);
      if (!newest.has(which)) newest.set(which, alert);
    }
    alerts = [...newest.values()].slice(0, 50);
    none.hidden = alerts.length !== 0;
    sync(list, alerts, (each) => JSON.stringify([each.name, each.labels, each.status, each.starts_at]), create, () => {});
  };
  return { node, update };
}
