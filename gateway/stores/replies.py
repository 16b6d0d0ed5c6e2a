"""Tells devices at once of a change that was just committed."""

import logging
from collections.abc import Collection
from uuid import UUID

from gateway.services import Services
from schemas import logs, replies
from schemas.postgres import Connection
from schemas.redis import RedisAway

log = logging.getLogger(__name__)


async def publish(services: Services, connection: Connection, device_ids: Collection[UUID]) -> None:
    """Rewrite the prepared replies of these devices, after the commit of what changed them.

    With Redis away the change stands all the same: it is noted in `reply_queue`, and a worker repeats the write.
    """
    if not device_ids:
        return
    try:
        await replies.write(connection, services.redis, device_ids)
    except RedisAway as error:
        logs.event(log, logging.WARNING, "reply_deferred", devices=len(device_ids), cause=str(error))
