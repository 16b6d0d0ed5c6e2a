// Times as the reader's clock shows them. The server writes UTC, which stays the title.
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** Show all times below a node in the reader's zone. */
export function showTimes(within) {
  for (const time of within.querySelectorAll("time[datetime]")) show(time);
}

function show(time) {
  const at = new Date(time.dateTime);
  if (Number.isNaN(at.getTime())) return;
  time.textContent = "relative" in time.dataset ? ago(at) : exact.format(at);
}

function ago(at) {
  const seconds = Math.round((at - Date.now()) / 1000);
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS.at(-1);
  return Math.abs(seconds) > 30 * 86400 ? exact.format(at) : relative.format(Math.trunc(seconds / size), unit);
}

setInterval(() => document.querySelectorAll("time[data-relative]").forEach(show), 10_000);
