"""What events tell of a device's model."""

from typing import Any
from uuid import UUID, uuid4

from schemas.device_models import NAMES_KEPT_S, DeviceModels

DEVICE, MODEL = uuid4(), uuid4()


class Postgres:
    """Answers both statements, and counts them."""

    def __init__(self) -> None:
        self.asked = {"devices": 0, "device_models": 0}
        self.product_number = "1"

    async def fetch(self, statement: str, ids: list[UUID]) -> list[dict[str, Any]]:
        table = "device_models" if "device_models" in statement else "devices"
        self.asked[table] += 1
        if table == "devices":
            return [{"id": DEVICE, "model_id": MODEL} for known in ids if known == DEVICE]
        return [{"id": MODEL, "device_type": "sensor", "product_number": self.product_number}]


async def test_a_changed_name_of_a_model_is_told_a_second_later_and_models_are_not_read_with_each_page() -> None:
    """A page of events costs no statement on models that were read a moment ago."""
    postgres, now = Postgres(), 0.0
    models = DeviceModels(lambda: now)
    for _ in range(3):
        assert (await models.of(postgres, [DEVICE]))[DEVICE].product_number == "1"  # type: ignore[arg-type]
    assert postgres.asked == {"devices": 1, "device_models": 1}
    postgres.product_number = "2"
    now += NAMES_KEPT_S
    found = await models.of(postgres, [DEVICE, uuid4()])  # type: ignore[arg-type]
    assert found == {DEVICE: ("sensor", "2")}
