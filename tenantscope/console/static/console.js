// The console: asks its server once a second, and shows one view of what it says. Views are made of sections; the address
// names the view, so that it can be sent to somebody.

import { make, write } from "/elements.js";
import { alertCards, oneStall, stallCards } from "/incidents.js";
import { curves, pairsTable, tenantsTable } from "/tenants.js";
import { conversationsTable, traceTree } from "/traces.js";
import { percent, perSecond } from "/words.js";

const EVERY = 1000; // milliseconds
const main = document.querySelector("#main");
const state = document.querySelector("#state");
const news = document.querySelector("#news");

let now = null; // the newest document of /api/now
let paused = false;
let shown = ""; // the address of the view that stands in <main>
let parts = []; // its sections
let heard = null; // ids of the stalls that were announced

// Views ---------------------------------------------------------------------------------------------------------------

const threeCurves = (only) => [
  curves("Share of the loop", "Part of the time in which a tenant had an event loop.", 0, percent, only),
  curves("Made others wait", "Seconds per second that others' ready work stood behind a tenant's.", 2, perSecond, only),
  curves("Waited", "Seconds per second that a tenant's ready work stood behind others'.", 1, perSecond, only),
];
const views = {
  now: () => ["Now", [tenantsTable(), ...threeCurves(), stallCards(() => true, { most: 10 }), pairsTable()]],
  conversations: () => ["Conversations", [conversationsTable(ask)]],
  alerts: () => ["Alerts", [alertCards(() => true)]],
  tenants: (tenant) => [`Tenant ${tenant}`, [
    tenantsTable(tenant),
    ...threeCurves(tenant),
    stallCards((stall) => stall.tenant === tenant || stall.victims.includes(tenant)),
    pairsTable(tenant),
    alertCards((alert) => alert.labels.tenant_id === tenant),
    conversationsTable(ask, tenant),
  ]],
  stalls: (id) => [`Stall ${id}`, [oneStall(id)]],
  traces: (id) => ["Conversation", [traceTree(ask, id)]],
};

/** Show the view that the address names. */
function show() {
  const [, name = "", rest = ""] = location.hash.split("/");
  let about = rest;
  try {
    about = decodeURIComponent(rest);
  } catch {
    // An address that was cut short: shown as it is.
  }
  const view = Object.hasOwn(views, name) ? name : "now";
  let title = "";
  [title, parts] = views[view](about);
  document.title = `${title} · tenantscope`;
  for (const each of document.querySelectorAll("nav a")) {
    if (each.dataset.view === view) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
  main.replaceChildren(...(view === "tenants" ? [make("h2", { class: "where" }, title)] : []), ...parts.map((part) => part.node));
  if (now) update();
  if (shown && shown !== location.hash) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  shown = location.hash || "#/";
}

function update() {
  for (const part of parts) part.update(now);
}

// The life of the page ------------------------------------------------------------------------------------------------

/** JSON of the server; null, and a word in the heading, when there is none. */
async function ask(path) {
  try {
    const response = await fetch(path, { cache: "no-store" });
    if (response.status === 401) {
      location.reload(); // to the form: nothing of what was seen stays
      return null;
    }
    const answer = await response.json();
    if (response.ok) return answer;
    write(state, answer.error ?? "The console does not answer.");
  } catch {
    write(state, "The console has ended, or the way to it is cut.");
  }
  state.className = "bad";
  return null;
}

/** Say in the heading how things are, and to the ear what is new. */
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
    if (answer && now && answer.visitor !== now.visitor) location.reload(); // somebody else signed in, in another tab
    else if (answer) {
      now = answer;
      leaveButton.hidden = !now.visitor;
      announce();
      update();
    }
  }
  setTimeout(tick, EVERY);
}

const leaveButton = document.querySelector("#leave");
leaveButton.addEventListener("click", async () => {
  await fetch("/leave", { method: "POST" }).catch(() => {});
  location.reload();
});
const themeButton = document.querySelector("#theme");
const root = document.documentElement;
const otherTheme = () => (root.dataset.theme === "dark" ? "light" : "dark");
const offer = () => write(themeButton, otherTheme() === "dark" ? "Dark" : "Light");
offer();
themeButton.addEventListener("click", () => {
  root.dataset.theme = otherTheme(); // theme.js has set it, and will again
  localStorage.setItem("theme", root.dataset.theme);
  offer();
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
