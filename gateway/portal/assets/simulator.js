// A device in the browser: registers, tells what its sliders say, and does what the answers ask of it.
const root = document.querySelector("[data-devices]");
const devices = root.dataset.devices;
const get = (id) => document.getElementById(id);
const byte = () => Math.floor(Math.random() * 256).toString(16).padStart(2, "0");
let device = null;
let configVersion = 0;
let timer = null;

get("sn").value = `SIM${Date.now()}`;
get("mac").value = ["02", byte(), byte(), byte(), byte(), byte()].join(":");

get("register").addEventListener("submit", async (event) => {
  event.preventDefault();
  const unit = { hardware_key: get("hardware_key").value, sn: get("sn").value, firmware_version: get("firmware").value };
  if (get("mac").value) unit.mac = get("mac").value;
  const { ok, body } = await call("POST", "", unit);
  get("identity").textContent = ok ? `Registered as ${body.id}` : (body.error ?? "That did not work");
  if (!ok) return;
  device = body;
  get("telemetry").querySelector("button").disabled = false;
});

get("telemetry").addEventListener("submit", (event) => {
  event.preventDefault();
  tell();
});

for (const slider of document.querySelectorAll("[data-telemetry]")) {
  slider.addEventListener("input", () => {
    get(`${slider.id}-shown`).textContent = slider.value;
  });
}

get("often").addEventListener("change", ({ target }) => {
  clearInterval(timer);
  if (target.checked) timer = setInterval(() => device && tell(), 5000);
});

async function tell() {
  const telemetries = {};
  for (const slider of document.querySelectorAll("[data-telemetry]")) telemetries[slider.id] = Number(slider.value);
  const { ok, body } = await call("POST", "/telemetry", { status: get("status").value, telemetries });
  get("waits").textContent = JSON.stringify(body, null, 2);
  if (!ok) return;
  if (body.command) await showCommand();
  if (body.config_version > configVersion) await takeConfig();
}

async function showCommand() {
  const { ok, body } = await call("GET", "/command");
  if (!ok || !body.id) return;
  const text = document.createElement("p");
  text.textContent = `${body.name} ${JSON.stringify(body.parameters)}`;
  const actions = document.createElement("div");
  actions.className = "actions";
  for (const [label, status] of [["Done", "done"], ["Failed", "failed"]]) {
    const button = document.createElement("button");
    button.textContent = label;
    button.addEventListener("click", async () => {
      const told = await call("POST", "/command", { id: body.id, status, message: "From the simulator" });
      text.textContent = told.ok ? `${body.name}: ${status}` : told.body.error;
      actions.remove();
    });
    actions.append(button);
  }
  get("command").replaceChildren(text, actions);
}

async function takeConfig() {
  const { ok, body } = await call("GET", "/config");
  if (!ok) return;
  configVersion = body.version;
  get("config").textContent = JSON.stringify(body.config, null, 2);
  await call("POST", "/config", { ...body.config, version: body.version });
}

async function call(method, path, sent = undefined) {
  const headers = { "Content-Type": "application/json" };
  if (device) headers.Authorization = device.access_key;
  const address = path ? `${devices}/${device.id}${path}` : devices;
  const line = document.createElement("li");
  get("calls").prepend(line);
  while (get("calls").children.length > 12) get("calls").lastChild.remove();
  try {
    const answer = await fetch(address, { method, headers, body: JSON.stringify(sent), credentials: "omit" });
    line.textContent = `${method} ${path || "/v1/devices"}: ${answer.status}`;
    return { ok: answer.ok, body: await answer.json() };
  } catch (error) {
    line.textContent = `${method} ${path}: ${error.message}`;
    return { ok: false, body: { error: "The gateway cannot be reached just now." } };
  }
}
