"""`python -m schemas.manifests`: the JSON schema of manifests."""

import sys

import msgspec

from schemas.manifests.manifest import Manifest

sys.stdout.write(msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Manifest))).decode() + "\n")
