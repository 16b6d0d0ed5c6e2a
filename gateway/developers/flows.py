"""Flow diagrams: who calls whom, drawn from a few lines of text as SVG that takes its colours from the page.

Device -> Gateway: POST /v1/devices        a call, by method and path; the diagram links to its reference
Gateway --> Device: id, access key         an answer, or what somebody is told
Gateway: keeps the message                 what one does by itself
"""

import re
from collections.abc import Callable, Mapping
from html import escape

from msgspec import Struct

_LINE = re.compile(r"(?P<who>\w+)(?: (?P<arrow>--?>) (?P<to>\w+))?: (?P<text>.+)")
_CALL = re.compile(r"(?:GET|POST|PUT|PATCH|DELETE) (/\S+)")
COLUMN, ROW, TOP, BOX = 290, 46, 58, 130


class Flow(Struct, frozen=True):
    """One diagram."""

    title: str
    about: str
    text: str


class Step(Struct, frozen=True):
    """One line of it."""

    who: str
    to: str
    """Empty for what one does by itself."""
    text: str
    answers: bool

    @property
    def call(self) -> str:
        """Method and path of the call that it names; empty for none."""
        found = _CALL.match(self.text)
        return found[0] if found is not None else ""


FLOWS: Mapping[str, Flow] = {
    "life": Flow(
        "A device's life",
        "From the line where it is made until its owner lets it go.",
        """
Vendor -> Gateway: POST /core/v1/organization/models
Vendor -> Gateway: POST /core/v1/organization/models/{model_id}/hardware_keys
Device -> Gateway: POST /v1/devices
Gateway --> Device: id and access key, shown once
Owner -> Gateway: POST /core/v1/organization/devices/claim
Device -> Gateway: POST /v1/devices/{device_id}/telemetry
Gateway --> Device: what waits: the response map
Owner -> Gateway: GET /core/v1/organization/devices/{device_id}
Owner -> Gateway: DELETE /core/v1/organization/devices/{device_id}
Device -> Gateway: POST /v1/devices/{device_id}/telemetry
Gateway --> Device: 401: register again
""",
    ),
    "claiming": Flow(
        "Registering and claiming",
        "A hardware key proves the model; what is printed on the unit proves that one holds it.",
        """
Device -> Gateway: POST /v1/devices
Gateway: is the hardware key good, the serial number new?
Gateway --> Device: 201: id, access key, hub_url
Owner -> Gateway: GET /v2/claimInfo
Gateway --> Owner: which device that would be
Owner -> Gateway: POST /core/v1/organization/devices/claim
Gateway --> Owner: the device, in its space
Device -> Gateway: POST /v1/devices/{device_id}/telemetry
Gateway --> Device: space_data_version: 1
Device -> Gateway: GET /v1/devices/{device_id}/space
""",
    ),
    "commands": Flow(
        "Commands",
        "First in, first out, one at a time; the device hears of them with its next message.",
        """
Owner -> Gateway: POST /core/v1/organization/devices/{device_id}/commands
Device -> Gateway: POST /v1/devices/{device_id}/telemetry
Gateway --> Device: command: true
Device -> Gateway: GET /v1/devices/{device_id}/command
Gateway --> Device: id, name, parameters
Device: does it
Device -> Gateway: POST /v1/devices/{device_id}/command
Gateway --> Owner: done, or failed, with a message
""",
    ),
    "config": Flow(
        "Config",
        "Both sides may write it; the version says whose is newer.",
        """
Owner -> Gateway: PUT /core/v1/organization/devices/{device_id}/config
Device -> Gateway: POST /v1/devices/{device_id}/telemetry
Gateway --> Device: config_version: 2
Device -> Gateway: GET /v1/devices/{device_id}/config
Device: applies it
Device -> Gateway: POST /v1/devices/{device_id}/config
Owner -> Gateway: GET /core/v1/organization/devices/{device_id}/config
""",
    ),
    "firmware": Flow(
        "Firmware",
        "Released to all at once, or wave by wave in a rollout, which a gate may stop.",
        """
Vendor -> Gateway: POST /core/v1/partner/files
Vendor -> Gateway: PUT /core/v1/partner/files/{file_id}/content
Vendor -> Gateway: POST /core/v1/partner/files/{file_id}/release
Vendor -> Gateway: POST /core/v1/partner/rollouts
Vendor -> Gateway: POST /core/v1/partner/rollouts/{rollout_id}/start
Device -> Gateway: POST /v1/devices/{device_id}/telemetry
Gateway --> Device: latest_fw_version, latest_fw_file_id
Device -> Gateway: GET /v1/devices/{device_id}/files/{file_id}
Device -> Gateway: GET /v1/devices/{device_id}/files/{file_id}/content
Device: checks the SHA-256, installs
Device -> Gateway: PUT /v1/devices/{device_id}
Gateway: counts it; when the wave is through, its gate decides
""",
    ),
    "webhooks": Flow(
        "Webhooks",
        "One POST for each event, tried again for 12 hours until the receiver takes it.",
        """
Owner -> Gateway: POST /v2/projects/{project}/dataconnectors
Owner -> Gateway: POST /v2/projects/{project}/dataconnectors/{connector}:test
Device -> Gateway: POST /v1/devices/{device_id}/telemetry
Gateway: stores it as an event
Gateway --> Receiver: the event, signed
Receiver --> Gateway: 2xx: done; else it comes again
Owner -> Gateway: GET /v2/projects/{project}/dataconnectors/{connector}:attempts
Owner -> Gateway: POST /v2/projects/{project}/dataconnectors/{connector}:replay
""",
    ),
    "imports": Flow(
        "Imports from a vendor's cloud",
        "Lists are compared whole; one that would take much away waits for a person.",
        """
Owner -> Gateway: POST /core/v1/organization/connectors
Gateway --> Owner: a link and a passcode, to send on
Vendor --> Gateway: credentials, on the link's page
Owner -> Gateway: GET /core/v1/organization/connectors/{connector_id}/preview
Gateway --> Vendor: reads the whole list
Gateway: compares: created, renamed, excluded
Owner -> Gateway: POST /core/v1/organization/connectors/{connector_id}/confirm
Owner -> Gateway: GET /core/v1/organization/connectors/{connector_id}/runs
""",
    ),
}


def steps(flow: Flow) -> list[Step]:
    """The lines of a flow. Raises ValueError for one that cannot be read."""
    found = []
    for line in flow.text.strip().splitlines():
        parsed = _LINE.fullmatch(line.strip())
        if parsed is None:
            raise ValueError(f"{flow.title}: {line}")
        found.append(Step(parsed["who"], parsed["to"] or "", parsed["text"], parsed["arrow"] == "-->"))
    return found


def svg(flow: Flow, link: Callable[[str], str]) -> str:
    """The drawing; `link` gives the address of a call's reference, by method and path."""
    drawn = steps(flow)
    people = list(dict.fromkeys(name for step in drawn for name in (step.who, step.to) if name))
    people.sort(key=("Vendor", "Device", "Gateway", "Owner", "Receiver").index)
    at = {name: BOX // 2 + 4 + COLUMN * place for place, name in enumerate(people)}
    # Texts that begin at the column before the last run on beyond that.
    width, height = COLUMN * len(people) - 20, TOP + ROW * len(drawn) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="group" aria-label="{escape(flow.title)}">'
    ]
    for name, x in at.items():
        parts.append(f'<line class="life" x1="{x}" y1="36" x2="{x}" y2="{height}"/>')
        parts.append(f'<rect class="box" x="{x - BOX // 2}" y="6" width="{BOX}" height="30" rx="6"/>')
        parts.append(f'<text class="who" x="{x}" y="26">{escape(name)}</text>')
    for row, step in enumerate(drawn):
        parts.append(_step(step, at, TOP + ROW * row, link))
    return "".join(parts) + "</svg>"


def _step(step: Step, at: Mapping[str, int], y: int, link: Callable[[str], str]) -> str:
    x = at[step.who]
    if not step.to:
        return f'<text class="note" x="{x + 10}" y="{y + 16}">{escape(step.text)}</text>'
    end = at[step.to]
    way = 1 if end > x else -1
    # The text begins at the left column of the arrow, and runs on over what is beyond its right one.
    text = f'<text x="{min(x, end) + 10}" y="{y + 10}">{escape(step.text)}</text>'
    if step.call:
        text = f'<a href="{escape(link(step.call))}">{text}</a>'
    kind = "answer" if step.answers else "call"
    tip = f'<path class="tip {kind}" d="M {end - way * 9} {y + 14} L {end - way} {y + 18} L {end - way * 9} {y + 22}"/>'
    return f'{text}<line class="{kind}" x1="{x}" y1="{y + 18}" x2="{end - way}" y2="{y + 18}"/>{tip}'
