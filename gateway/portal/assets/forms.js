// Forms: sent once, confirmed by name, rows chosen together, kept while somebody signs in again.
const KEPT = "fleetgate-kept";

export function watchForms(page) {
  page.addEventListener("submit", once);
  page.addEventListener("change", (event) => {
    if (event.target.closest("form[data-sends-itself]")) event.target.form.requestSubmit();
    if (event.target.matches("[data-pick-all]")) pickAll(event.target);
    if (event.target.matches("[data-pick], [data-pick-all]")) countPicked(event.target.form);
  });
  page.addEventListener("input", (event) => {
    const { mustBe } = event.target.dataset;
    if (mustBe !== undefined) event.target.setCustomValidity(event.target.value === mustBe ? "" : "Type the name as it is shown");
  });
  page.addEventListener("click", (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) copyText(copy);
  });
  for (const form of page.querySelectorAll("[data-with-picked]")) countPicked(form);
  page.addEventListener("htmx:afterSwap", () => page.querySelectorAll("[data-with-picked]").forEach(countPicked));
  keep(page);
  restore(page);
}

function once(event) {
  if (event.defaultPrevented || event.target.method !== "post") return;
  if (event.target.dataset.sent) return event.preventDefault();
  event.target.dataset.sent = "yes";
  addEventListener("pageshow", () => delete event.target.dataset.sent, { once: true });
}

function pickAll(all) {
  for (const box of document.querySelectorAll(`[data-pick][form="${all.getAttribute("form")}"]`)) box.checked = all.checked;
}

// Whatever says how many are chosen: <output data-picked form="…">, and what is of use only when some are.
function countPicked(form) {
  const picked = document.querySelectorAll(`[data-pick][form="${form.id}"]:checked`).length;
  for (const output of document.querySelectorAll(`[data-picked="${form.id}"]`)) output.textContent = String(picked);
  for (const part of document.querySelectorAll(`[data-with-picked="${form.id}"]`)) part.hidden = picked === 0;
}

async function copyText(button) {
  await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

// A form was sent when nobody was signed in any more: what was typed is kept in this tab, signing in leads back to the
// form's page, and the fields are filled again.
function keep(page) {
  const form = page.querySelector("form[data-keep]");
  if (!form) return;
  const typed = [...new FormData(form)].filter(([name]) => name !== "form_token");
  sessionStorage.setItem(KEPT, JSON.stringify({ path: form.dataset.keep, action: location.pathname, typed }));
  const link = page.querySelector("form[data-keep] a[target]");
  link.removeAttribute("target");
}

function restore(page) {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
  if (!kept || page.querySelector("form[data-keep]")) return;
  const form = [...page.forms].find((one) => one.method === "post" && new URL(one.action).pathname === kept.action);
  if (!form) return;
  sessionStorage.removeItem(KEPT);
  form.closest("details")?.setAttribute("open", "");
  const seen = {};
  for (const [name, value] of kept.typed) {
    const fields = [...form.elements].filter((field) => field.name === name && field.type !== "hidden");
    const field = fields.find((one) => one.value === value && one.type === "checkbox") ?? fields[(seen[name] = (seen[name] ?? -1) + 1)];
    if (!field) continue;
    if (field.type === "checkbox") field.checked = field.value === value;
    else field.value = field.type === "datetime-local" ? value.replace(/(\.\d+)?Z$/, "") : value;
  }
}
