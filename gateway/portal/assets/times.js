// Times as the reader's clock shows them. The server writes UTC, which stays the title.
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** Show all times below a node in the reader's zone. */
export function showTimes(within) {
  for (const time of within.querySelectorAll("time[datetime]")) show(time);
}

/** Let times be typed in the reader's zone below a node: what a form sends stays UTC, in a hidden field. */
export function localTimes(within) {
  for (const field of within.querySelectorAll('input[type="datetime-local"][name]')) {
    const sent = document.createElement("input");
    sent.type = "hidden";
    sent.name = field.name;
    field.removeAttribute("name");
    field.after(sent);
    if (field.value) field.value = inZone(new Date(`${field.value}Z`));
    const tell = () => (sent.value = field.value && new Date(field.value).toISOString());
    tell();
    field.addEventListener("input", tell);
  }
}

function inZone(at) {
  return new Date(at.getTime() - 60_000 * at.getTimezoneOffset()).toISOString().slice(0, 19);
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
