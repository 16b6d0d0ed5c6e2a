"""A device in Python, with nothing to install: python3 quickstart.py"""

import json
import random
import time
import urllib.request

URL = "@URL@"
HARDWARE_KEY = "@HARDWARE_KEY@"


def call(method, path, key="", body=None):
    headers = {"Content-Type": "application/json", "Authorization": key}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


# Register once, and keep what is answered: the access key is shown this once.
sn = f"QS{time.time_ns()}"
mac = "02:" + ":".join(f"{random.randrange(256):02x}" for _ in range(5))
unit = {"hardware_key": HARDWARE_KEY, "sn": sn, "mac": mac, "firmware_version": "1.0.0"}
device = call("POST", "/v1/devices", body=unit)
me, key = f"/v1/devices/{device['id']}", device["access_key"]
print(f"Claim me: serial number {sn}, MAC {mac} at {URL}/claim?sn={sn}&mac={mac}", flush=True)

# Tell something every five seconds; the answer says what waits for the device.
while True:
    told = {"status": "online", "telemetries": {"temperature": round(random.uniform(20, 25), 1)}}
    waits = call("POST", f"{me}/telemetry", key, told)
    print(waits, flush=True)
    if waits["command"]:
        command = call("GET", f"{me}/command", key)
        print("I was told to", command["name"], flush=True)
        call("POST", f"{me}/command", key, {"id": command["id"], "status": "done"})
    time.sleep(5)
