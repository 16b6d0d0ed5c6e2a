"""The master keys of an installation, by generation.

Access keys, secrets of service accounts and their tokens are derived from a master key. When it is rotated, a new
generation begins: what is made from then on is derived from the new key, what was made before stays good, until its
generation is retired. The database knows the fingerprint of each generation's key, no process a key that it was not
given. A key that is given and that no generation has is the one that the next begins with.

How it is rotated while everything runs stands in docs/security.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from schemas.constant_time import same_text
from schemas.ids import GENERATIONS_MAX, AccessKeys, fingerprint
from schemas.secrets import derived_secret
from schemas.settings import Keys, SettingsError

UNFIT = "FLEETGATE_MASTER_KEY is not the key of this database: with it every device would be turned away"
LACKING = (
    "FLEETGATE_MASTER_KEYS_MORE lacks the master key of generation {generation}: without it all devices and accounts "
    "whose keys are of that generation would be turned away"
)
FULL = "FLEETGATE_MASTER_KEYS_MORE holds a next master key, but four generations are in use: retire the oldest first"
SURPLUS = "FLEETGATE_MASTER_KEYS_MORE holds several keys that this database does not know: at most one can be the next"


class Generation(NamedTuple):
    """A master key as the database knows it."""

    number: int
    fingerprint: bytes
    retired: bool


def has_room(generations: Sequence[Generation]) -> bool:
    """Whether the next generation can begin: its slot is that of none that is in use."""
    following = max(one.number for one in generations) + 1
    return all(one.retired or (following - one.number) % GENERATIONS_MAX for one in generations)


class MasterKeys:
    """The master keys that a process was given, by the generations that are not retired."""

    def __init__(self, by_generation: Mapping[int, str], following: str | None = None) -> None:
        """`following` is the key that the next generation may begin with."""
        self._keys = dict(by_generation)
        self.newest = max(self._keys)
        self.following = following
        if following is not None:
            self._keys[self.newest + 1] = following

    def __repr__(self) -> str:
        return f"<MasterKeys generations={','.join(map(str, self._keys))}>"

    @classmethod
    def fitting(cls, generations: Sequence[Generation], keys: Keys) -> "MasterKeys":
        """Those among the keys that settings hold. Raises SettingsError when they are not those of the database."""
        given = {fingerprint(key): key for key in keys.master_keys}
        known = {generation.fingerprint for generation in generations}
        living = [generation for generation in generations if not generation.retired]
        if not any(generation.fingerprint in given for generation in living):
            raise SettingsError(UNFIT)
        for generation in living:
            if generation.fingerprint not in given:
                raise SettingsError(LACKING.format(generation=generation.number))
        others = [key for print_, key in given.items() if print_ not in known]
        if len(others) > 1:
            raise SettingsError(SURPLUS)
        if others and not has_room(generations):
            raise SettingsError(FULL)
        return cls({one.number: given[one.fingerprint] for one in living}, others[0] if others else None)

    def items(self) -> Iterator[tuple[int, str]]:
        """Generations and their keys, with the next one's where it is there."""
        return iter(self._keys.items())

    def access_keys(self) -> AccessKeys:
        """What makes and checks the access keys of devices."""
        slots = [""] * GENERATIONS_MAX
        for generation, key in self._keys.items():
            slots[generation % GENERATIONS_MAX] = key
        return AccessKeys(*slots, following=(self.newest + 1) % GENERATIONS_MAX)

    def of(self, generation: int) -> str:
        """The key of a generation that this process was given."""
        return self._keys[generation]

    def secret(self, generation: int, key_id: str) -> str | None:
        """The secret of a service account's key; None when this process was not given the generation's master key."""
        key = self._keys.get(generation)
        return None if key is None else derived_secret(key, key_id)

    def generation_of(self, key_id: str, secret: str) -> int | None:
        """The generation that this is the secret of a service account's key of; None when it is none. Constant time."""
        found = None
        for generation, key in self._keys.items():
            if same_text(secret, derived_secret(key, key_id)):
                found = generation
        return found
