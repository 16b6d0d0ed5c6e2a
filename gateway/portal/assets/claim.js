// Claiming: what a QR code or a file says goes into the fields.
const button = document.querySelector("[data-scan]");
const video = document.querySelector("[data-scanner]");
const MAC = /\b[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}\b|\b[0-9a-f]{12}\b/i;

if (button && "BarcodeDetector" in window && navigator.mediaDevices) {
  button.hidden = false;
  button.addEventListener("click", scan);
}

async function scan() {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }).catch(() => null);
  if (!stream) return (button.textContent = "The camera cannot be used");
  const detector = new BarcodeDetector({ formats: ["qr_code", "data_matrix", "code_128"] });
  video.srcObject = stream;
  video.hidden = false;
  await video.play();
  let found = [];
  while (found.length === 0) {
    await new Promise(requestAnimationFrame);
    found = await detector.detect(video);
  }
  for (const track of stream.getTracks()) track.stop();
  video.hidden = true;
  for (const [name, value] of Object.entries(read(found[0].rawValue))) {
    const field = document.querySelector(`[data-scanned="${name}"]`);
    if (field) field.value = value;
  }
}

/** What a code says: JSON, the address of a Cloud ID's claim or one with a query, a MAC with a serial number beside it, or a Cloud ID. */
export function read(text) {
  try {
    const said = JSON.parse(text);
    if (said && typeof said === "object") return said;
  } catch {
    // It is no JSON.
  }
  if (URL.canParse(text)) {
    const { pathname, searchParams } = new URL(text);
    const [, cloudId] = pathname.match(/\/c\/([^/]+)$/) ?? [];
    if (cloudId) return { cloud_id: decodeURIComponent(cloudId) };
    if (searchParams.size > 0) return Object.fromEntries(searchParams);
  }
  const mac = text.match(MAC)?.[0];
  if (!mac) return { cloud_id: text.trim() };
  const sn = text.replace(mac, " ").replace(/\b(mac|sn|s\/n|serial)\b\s*[:=]?/gi, " ").replace(/[;,|]/g, " ").trim();
  return { mac, sn: sn.split(/\s+/)[0] ?? "" };
}

for (const file of document.querySelectorAll("input[type=file][data-into]")) {
  file.addEventListener("change", async () => {
    document.getElementById(file.dataset.into).value = (await file.files[0]?.text()) ?? "";
  });
}
