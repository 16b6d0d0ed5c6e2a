// Passkeys: a form that asks the browser for one first, and brings along what it answered.
import { say } from "./portal.js";

const usable = "PublicKeyCredential" in window && "parseCreationOptionsFromJSON" in PublicKeyCredential;
const REFUSED = {
  InvalidStateError: "This device has a passkey for you here already.",
  NotAllowedError: "No passkey was used: that was cancelled, or took too long.",
  SecurityError: "Passkeys do not work at this address.",
};

if (usable) for (const part of document.querySelectorAll("[data-with-passkeys]")) part.hidden = false;
// Before others see it: what is sent is the second time.
document.addEventListener("submit", start, true);

async function start(event) {
  const form = event.target;
  if (!form.dataset.challenge) return;
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    await ask(form);
  } catch (error) {
    say(REFUSED[error.name] ?? "That did not work.", "bad");
  } finally {
    button.disabled = false;
  }
}

async function ask(form) {
  const answer = await fetch(form.dataset.challenge, { method: "POST", body: new URLSearchParams(new FormData(form)) });
  if (!answer.ok) return refused(form, await answer.text());
  const options = await answer.json();
  const credential = form.dataset.passkey === "create"
    ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
    : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
  // The password was for the challenge.
  for (const field of form.querySelectorAll("[type=password]")) field.disabled = true;
  const brought = document.createElement("input");
  Object.assign(brought, { type: "hidden", name: "credential", value: JSON.stringify(credential) });
  form.append(brought);
  form.submit();
}

// The page that refuses has the form with what is wrong in it; or it says so itself.
function refused(form, text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  const again = page.getElementById(form.id);
  if (again) form.replaceWith(again);
  else say(page.querySelector("main p")?.textContent ?? "That did not work.", "bad");
}
