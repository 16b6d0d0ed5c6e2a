// What every page does in the browser. Pages work without it; it makes them quicker to use.
import { localTimes, showTimes } from "./times.js";
import { watchForms } from "./forms.js";
import { watchLive } from "./live.js";
import { watchTheme } from "./theme.js";

document.documentElement.classList.add("scripted");
showTimes(document);
watchForms(document);
localTimes(document);
watchTheme(document);
watchLive(document);

document.addEventListener("htmx:afterSwap", ({ target }) => {
  showTimes(target.ownerDocument);
  localTimes(target.ownerDocument);
});
document.addEventListener("htmx:responseError", (event) => {
  const page = new DOMParser().parseFromString(event.detail.xhr.responseText, "text/html");
  say(page.querySelector("main p")?.textContent ?? "That did not work.", "bad");
});
document.addEventListener("htmx:sendError", () => say("The gateway cannot be reached just now.", "bad"));

// What the browser gave up (loading was stopped, the page is left) is an answer that changes nothing; htmx would log it
// as an error.
document.addEventListener("htmx:beforeSend", ({ detail }) => (detail.xhr.onabort = detail.xhr.onload));

// A page that could not be made looks again by itself, and is shown as soon as it can be.
const retry = document.querySelector("[data-retry]");
if (retry) {
  const look = async () => {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => null);
    if (answer && answer.status !== 503) location.reload();
    else setTimeout(look, 1000 * Number(retry.dataset.retry));
  };
  setTimeout(look, 1000 * Number(retry.dataset.retry));
}

/** Tell something in the corner, for some seconds. */
export function say(text, tone = "good") {
  const message = document.createElement("div");
  message.className = "message";
  message.dataset.tone = tone;
  message.textContent = text;
  document.getElementById("toasts").append(message);
  setTimeout(() => message.remove(), 8000);
}
