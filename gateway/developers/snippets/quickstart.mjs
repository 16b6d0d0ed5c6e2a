// A device in Node.js 18 or newer, with nothing to install: node quickstart.mjs
const URL = "@URL@";
const HARDWARE_KEY = "@HARDWARE_KEY@";

async function call(method, path, key = "", body = undefined) {
  const headers = { "Content-Type": "application/json", Authorization: key };
  const answer = await fetch(URL + path, { method, headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

// Register once, and keep what is answered: the access key is shown this once.
const sn = `QS${Date.now()}`;
const mac = ["02", ...Array.from({ length: 5 }, () => Math.floor(Math.random() * 256).toString(16).padStart(2, "0"))].join(":");
const unit = { hardware_key: HARDWARE_KEY, sn, mac, firmware_version: "1.0.0" };
const { id, access_key: key } = await call("POST", "/v1/devices", "", unit);
const me = `/v1/devices/${id}`;
console.log(`Claim me: serial number ${sn}, MAC ${mac} at ${URL}/claim?sn=${sn}&mac=${mac}`);

// Tell something every five seconds; the answer says what waits for the device.
for (;;) {
  const told = { status: "online", telemetries: { temperature: 20 + Math.round(Math.random() * 50) / 10 } };
  const waits = await call("POST", `${me}/telemetry`, key, told);
  console.log(JSON.stringify(waits));
  if (waits.command) {
    const command = await call("GET", `${me}/command`, key);
    console.log("I was told to", command.name);
    await call("POST", `${me}/command`, key, { id: command.id, status: "done" });
  }
  await new Promise((resolve) => setTimeout(resolve, 5000));
}
