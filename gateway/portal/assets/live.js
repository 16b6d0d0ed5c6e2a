// A page that is live: one stream, what it tells, and whether it still does. Where it does not, the page says since when.
//   <span data-live="address">             shows "live" or "stale since"
//   <td data-value="temperature">          is given the newest value of that name; data-seen the time of the last call
//   <section id="…" data-refresh="10">     is asked for anew every so many seconds while the page is live
import { showTimes } from "./times.js";

const SILENT_S = 15;
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

export function watchLive(page) {
  const sign = page.querySelector("[data-live]");
  if (sign) follow(sign);
}

function follow(sign) {
  let heard = Date.now();
  let wasStale = false;
  let source;
  const begin = () => {
    source = new EventSource(sign.dataset.live);
    source.addEventListener("beat", alive);
    source.addEventListener("state", (event) => {
      alive();
      show(JSON.parse(event.data));
    });
    source.addEventListener("error", stale);
  };
  const alive = () => {
    heard = Date.now();
    sign.textContent = "live";
    sign.dataset.tone = "good";
    if (wasStale) refresh();
    wasStale = false;
  };
  const stale = () => {
    sign.textContent = `stale since ${clock.format(heard)}`;
    sign.dataset.tone = "warn";
    wasStale = true;
  };
  begin();
  setInterval(() => {
    if (Date.now() - heard > SILENT_S * 1000) stale();
    // A stream that was refused is not asked for again by the browser itself.
    if (source.readyState === EventSource.CLOSED) begin();
  }, 3000);
  const every = Math.min(...[...document.querySelectorAll("[data-refresh]")].map((part) => Number(part.dataset.refresh)));
  if (Number.isFinite(every)) setInterval(() => wasStale || document.hidden || refresh(), every * 1000);
}

function show(state) {
  for (const place of document.querySelectorAll("[data-value]")) {
    const value = state.values[place.dataset.value];
    if (value !== undefined) place.textContent = String(value);
  }
  for (const time of document.querySelectorAll("time[data-seen]")) time.dateTime = state.last_seen_at;
  showTimes(document);
  document.dispatchEvent(new CustomEvent("state", { detail: state }));
}

// All parts by one request for the page as it is now. A part that somebody is working in stays.
async function refresh() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => null);
  if (!answer?.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-refresh]")) {
    const now = fresh.getElementById(part.id);
    if (!now || part.contains(document.activeElement)) continue;
    part.replaceWith(now);
    showTimes(now);
    window.htmx?.process(now);
  }
}
