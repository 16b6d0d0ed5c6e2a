"""One data connector: how it goes, its attempts, its queue, its settings; and all that people do with it."""

from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import Struct
from starlette.responses import Response

from gateway.api.scopes import ProjectScope
from gateway.organization.histories import Moment, moment_of
from gateway.permissions import Permission
from gateway.portal.data_connectors import IN_PROJECT, PATH, choices, faults_shown, id_of, refuse_faults
from gateway.portal.forms import DoesNotFitFields, Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.services import Services
from gateway.v2 import data_connectors, deliveries, delivery_health
from gateway.v2.data_connector_settings import Change, DataConnector
from gateway.v2.data_connectors import NewSecret
from gateway.v2.deliveries import Attempt, AttemptsQuery, Replay
from gateway.v2.delivery_health import Minutes, MinutesQuery
from gateway.v2.update_masks import UpdateQuery

ONE = IN_PROJECT + "/{connector}"
IN_THE_FORM = "displayName,events,labels,httpConfig.url,httpConfig.headers,delivery"
"""What the form of settings has; a field that is empty in it resets its setting."""
DAY = timedelta(hours=24)


class Range(Struct, kw_only=True):
    """What the charts show."""

    range: Literal["3h", "24h"] = "3h"


class Since(Struct, kw_only=True):
    """What a replay is proposed to begin with."""

    start_time: Moment | None = None


class Switch(Struct):
    """On or off."""

    status: Literal["ACTIVE", "USER_DISABLED"]


class Confirmed(Struct):
    """What was typed to show that it is meant."""

    confirmed: str = ""


@page("GET", ONE, permission=Permission.READ)
async def show(services: Services, project: ProjectScope, connector: str, query: Range) -> View:
    """How it goes: what it sent, what it owes, why it is disabled."""
    values = await _about(services, project, connector)
    now = services.clock()
    wanted = MinutesQuery(start_time=now - DAY, end_time=now) if query.range == "24h" else MinutesQuery()
    minutes = await delivery_health.list_minutes(services, project, connector, wanted)
    values |= {
        "range": query.range,
        "ledger": await deliveries.read_ledger(services, project, connector),
        "minutes": minutes,
        "attempts_chart": _attempts_chart(minutes),
        "latency_chart": _latency_chart(minutes),
        "last_failure": await _last_failure(services, project, connector),
    }
    return View("data_connector.html", values)


@page("GET", ONE + "/attempts", permission=Permission.READ)
async def show_attempts(services: Services, project: ProjectScope, connector: str, query: AttemptsQuery) -> View:
    """What was sent lately, and what the receiver answered."""
    values = await _about(services, project, connector)
    values["attempts"] = (await deliveries.list_attempts(services, project, connector, query)).attempts
    values["wanted"] = query
    return View("data_connector_attempts.html", values)


@page("GET", ONE + "/queue", permission=Permission.READ)
async def show_queue(services: Services, project: ProjectScope, connector: str, query: Since, form: Form) -> View:
    """What is being done with its queue, and what can be."""
    values = await _about(services, project, connector)
    jobs = (await deliveries.list_jobs(services, project, connector)).jobs
    begin = None if query.start_time is None else moment_of("Start time", query.start_time)
    values |= {"form": form, "begin": begin, "jobs": jobs, "is_busy": any(job.state == "RUNNING" for job in jobs)}
    return View("data_connector_queue.html", values)


@page("GET", ONE + "/settings", permission=Permission.READ)
async def show_settings(services: Services, project: ProjectScope, connector: str, form: Form) -> View:
    """What is sent where, as whom it may be changed by."""
    values = await _about(services, project, connector)
    return View("data_connector_settings.html", {**values, "form": form, **choices()})


@page("POST", ONE + "/check", permission=Permission.DEVELOP, audited=False)
async def check(services: Services, project: ProjectScope, connector: str, body: Change) -> View:
    """What does not fit of what was typed so far."""
    return faults_shown(await data_connectors.check_change(services, project, connector, body))


@page("POST", ONE + "/settings", permission=Permission.DEVELOP, shown_by=show_settings)
async def change(services: Services, project: ProjectScope, connector: str, body: Change) -> Response:
    """Change it, from its next attempt on."""
    refuse_faults(await data_connectors.check_change(services, project, connector, body))
    await data_connectors.update_connector(services, project, connector, UpdateQuery(update_mask=IN_THE_FORM), body)
    return _to(services, project, connector, "settings", said="Saved: it holds from the next attempt on")


@page("POST", ONE + "/secret", permission=Permission.DEVELOP, shown_by=show_settings)
async def sign_anew(services: Services, project: ProjectScope, connector: str, body: NewSecret) -> Response:
    """Sign with another secret."""
    await data_connectors.rotate_secret(services, project, connector, body)
    return _to(services, project, connector, "settings", said="Requests are signed with the new secret from now on")


@page("POST", ONE + "/unsigned", permission=Permission.DEVELOP, shown_by=show_settings)
async def sign_no_more(services: Services, project: ProjectScope, connector: str) -> Response:
    """Take the secret away."""
    mask = UpdateQuery(update_mask="httpConfig.signatureSecret")
    await data_connectors.update_connector(services, project, connector, mask, Change())
    return _to(services, project, connector, "settings", said="Requests are signed with no secret any more")


@page("POST", ONE + "/status", permission=Permission.DEVELOP)
async def switch(services: Services, project: ProjectScope, connector: str, body: Switch) -> Response:
    """Switch it on or off."""
    change_ = Change(status=body.status)
    await data_connectors.update_connector(services, project, connector, UpdateQuery(), change_)
    said = "It gets every event from now on" if body.status == "ACTIVE" else "Nothing is sent any more"
    return _to(services, project, connector, said=said)


@page("POST", ONE + "/test", permission=Permission.DEVELOP)
async def test(services: Services, project: ProjectScope, connector: str) -> Response:
    """Send one event now, and show what came back."""
    attempt = await deliveries.send_test(services, project, connector)
    said = f"The test event was sent: {_outcome(attempt)}"
    return _to(services, project, connector, "attempts", said=said, event_id=attempt.event_id)


@page("POST", ONE + "/sync", permission=Permission.DEVELOP, shown_by=show_queue)
async def synchronize(services: Services, project: ProjectScope, connector: str) -> Response:
    """Send the newest state of every device."""
    await deliveries.synchronize(services, project, connector)
    return _to(services, project, connector, "queue", said="The newest event of each type of each device is on its way")


@page("POST", ONE + "/replay", permission=Permission.DEVELOP, shown_by=show_queue)
async def replay(services: Services, project: ProjectScope, connector: str, body: Replay) -> Response:
    """Send all events of a time range once more."""
    await deliveries.replay(services, project, connector, body)
    return _to(services, project, connector, "queue", said="The replay has begun")


@page("POST", ONE + "/delete", permission=Permission.DEVELOP)
async def delete(services: Services, project: ProjectScope, connector: str, body: Confirmed) -> Response:
    """Delete it, if that is meant."""
    found = await data_connectors.read_connector(services, project, connector)
    if body.confirmed != _named(found):
        raise DoesNotFitFields({"confirmed": f"Type {_named(found)} to delete this data connector"})
    await data_connectors.delete_connector(services, project, connector)
    return redirect(services, PATH, said=f"{_named(found)} is deleted; nothing more is sent")


async def _about(services: Services, project: ProjectScope, connector: str) -> dict[str, Any]:
    """What every page of a connector shows."""
    found = await data_connectors.read_connector(services, project, connector)
    return {
        "connector": found,
        "connector_id": id_of(found.name),
        "project_id": project.id,
        "title": _named(found),
        "health": await delivery_health.read_health(services, project, connector),
        "may_change": Permission.DEVELOP in project.permissions,
    }


def _named(connector: DataConnector) -> str:
    return connector.display_name or id_of(connector.name)


async def _last_failure(services: Services, project: ProjectScope, connector: str) -> Attempt | None:
    failed = await deliveries.list_attempts(services, project, connector, AttemptsQuery(result="failed"))
    return failed.attempts[0] if failed.attempts else None


def _to(services: Services, project: ProjectScope, connector: str, *tab: str, said: str, **query: Any) -> Response:
    return redirect(services, PATH, project.id, connector, *tab, said=said, **query)


def _outcome(attempt: Attempt) -> str:
    if attempt.cause is None:
        return f"the receiver answered {attempt.status} within {attempt.latency_ms} ms"
    return f"it failed ({attempt.cause}{'' if attempt.status is None else f' {attempt.status}'})"


def _attempts_chart(minutes: Minutes) -> dict[str, Any]:
    """Attempts of each step. Where there were none the number is nought, which is no gap."""
    found = {point.time: point for point in minutes.points}
    times = _times(minutes)
    return {
        "unit": "attempts",
        "x": [int(at.timestamp()) for at in times],
        "series": [
            {"label": label, "tone": tone, "values": [getattr(found.get(_key(at)), member, 0) for at in times]}
            for label, tone, member in (("Delivered", "good", "success_count"), ("Failed", "bad", "error_count"))
        ],
    }


def _latency_chart(minutes: Minutes) -> dict[str, Any]:
    """How long attempts took; a step without any is a gap."""
    found = {point.time: point for point in minutes.points}
    times = _times(minutes)
    return {
        "unit": "ms",
        "x": [int(at.timestamp()) for at in times],
        "series": [
            {"label": label, "tone": tone, "values": [getattr(found.get(_key(at)), member, None) for at in times]}
            for label, tone, member in (
                ("Half took at most", "accent", "latency_median_ms"),
                ("99 of 100 took at most", "warn", "latency_99p_ms"),
            )
        ],
    }


def _times(minutes: Minutes) -> list[datetime]:
    """When the steps begin, the one of the range's begin first."""
    start, end = datetime.fromisoformat(minutes.start_time), datetime.fromisoformat(minutes.end_time)
    first = int(start.timestamp()) // minutes.step_seconds * minutes.step_seconds
    return [
        datetime.fromtimestamp(at, start.tzinfo) for at in range(first, int(end.timestamp()) + 1, minutes.step_seconds)
    ]


def _key(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


PAGES = (
    show,
    show_attempts,
    show_queue,
    show_settings,
    check,
    change,
    sign_anew,
    sign_no_more,
    switch,
    test,
    synchronize,
    replay,
    delete,
)
