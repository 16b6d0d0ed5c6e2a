// Sends the calls of the reference with the reader's own key, to this gateway alone, and shows the real answer.
const KEYS = "fleetgate-docs-keys";
const kept = JSON.parse(sessionStorage.getItem(KEYS) ?? "{}");

for (const input of document.querySelectorAll("[data-key]")) input.value = kept[input.dataset.key] ?? "";
for (const input of document.querySelectorAll("[data-known]")) input.value = kept[`id:${input.dataset.known}`] ?? input.value;

document.addEventListener("change", ({ target }) => {
  const name = target.dataset.key ?? (target.dataset.place === "path" ? `id:${target.dataset.known}` : "");
  if (!name) return;
  kept[name] = target.value;
  sessionStorage.setItem(KEYS, JSON.stringify(kept));
  const others = target.dataset.key ? `[data-key="${name}"]` : `[data-place="path"][data-known="${target.dataset.known}"]`;
  for (const other of document.querySelectorAll(others)) other.value = target.value;
});

for (const form of document.querySelectorAll("[data-send]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
}

async function send(form) {
  const shown = form.querySelector("[data-answer]");
  const began = performance.now();
  show(shown, "quiet", "Sending…");
  try {
    const answer = await fetch(...requestOf(form));
    const text = form.dataset.endless === undefined ? await answer.text() : await firstOf(answer.body);
    const took = Math.round(performance.now() - began);
    show(shown, answer.ok ? "good" : "bad", `${answer.status} ${answer.statusText} in ${took} ms`, readable(text));
  } catch (error) {
    show(shown, "bad", `It could not be sent: ${error.message}`);
  }
}

function requestOf(form) {
  const headers = {};
  const query = new URLSearchParams();
  let path = form.dataset.path;
  for (const input of form.querySelectorAll("[data-place]")) {
    const filled = `{${input.name}}`;
    if (input.dataset.place === "path") path = path.replace(filled, encodeURIComponent(input.value)).replace(encodeURIComponent(filled), encodeURIComponent(input.value));
    else if (input.value) query.append(input.name, input.value);
  }
  const key = (name) => form.querySelector(`[data-key="${name}"]`)?.value ?? "";
  const { scheme } = form.dataset;
  if (scheme === "account") headers.Authorization = `Basic ${btoa(`${key("account-id")}:${key("account-secret")}`)}`;
  else if (scheme) headers.Authorization = key(scheme);
  const area = form.querySelector("[data-body]");
  let body;
  if (area) {
    headers["Content-Type"] = area.dataset.body;
    body = area.dataset.body.endsWith("urlencoded") ? new URLSearchParams(JSON.parse(area.value)) : area.value;
  }
  const address = path + (query.size ? `?${query}` : "");
  return [address, { method: form.dataset.send, headers, body, credentials: "omit", cache: "no-store" }];
}

// What a stream says in its first seconds.
async function firstOf(body) {
  const reader = body.getReader();
  let text = "";
  const timer = setTimeout(() => reader.cancel(), 5000);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    text += new TextDecoder().decode(value);
  }
  clearTimeout(timer);
  return text || "Nothing was said within five seconds.";
}

function readable(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function show(place, tone, title, text = "") {
  const message = document.createElement("div");
  message.className = "message";
  message.dataset.tone = tone;
  message.textContent = title;
  place.replaceChildren(message);
  if (!text) return;
  const block = document.createElement("div");
  block.className = "code";
  const pre = document.createElement("pre");
  pre.tabIndex = 0;
  pre.textContent = text;
  block.append(pre);
  place.append(block);
}
