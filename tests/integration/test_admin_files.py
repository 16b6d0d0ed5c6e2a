"""`fleetgate admin files`: from a file on disk to what devices are offered."""

import io
import sys
from pathlib import Path

import pytest
from test_admin import Admin, command

from schemas.postgres import Pool

__all__ = ["command"]


async def test_firmware_is_uploaded_released_and_withdrawn(
    command: Admin, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes lie in the store under their SHA-256; what is refused is one sentence, and leaves nothing."""
    monkeypatch.setenv("FLEETGATE_FILE_STORE", str(tmp_path / "store"))
    organization = (await command.json("organizations", "create", "Acme"))["id"]
    model = (await command.json("models", "create", "--organization", organization, "Acme", "Sensor"))["id"]
    image = tmp_path / "fw.bin"
    image.write_bytes(bytes(600_000))
    upload = ("files", "upload", "--model", model, image)
    code, _, told = await command.run(*upload)
    assert (code, told) == (1, "fleetgate admin: Version can't be blank\n")
    code, _, told = await command.run("files", "upload", "--model", model, tmp_path / "none", "--version", "1.0.0")
    assert (code, "cannot be read: No such file" in told) == (1, True)
    assert await pool.fetchval("SELECT count(*) FROM files") == 0
    file = await command.json(*upload, "--version", "v1.2", "--release")
    assert (file["name"], file["version"], file["size"], file["status"]) == ("fw.bin", "1.2.0", 600_000, "released")
    assert (tmp_path / "store" / file["checksum"]).stat().st_size == 600_000
    own = await command.json("files", "upload", "--organization", organization, image, "--type", "manual")
    assert [one["id"] for one in await command.json("files", "list", "--model", model)] == [file["id"]]
    assert [one["id"] for one in await command.json("files", "list", "--organization", organization)] == [own["id"]]
    assert (await command.run("files", "delete", file["id"]))[0] == 1
    assert (await command.json("files", "withdraw", file["id"]))["status"] == "withdrawn"
    assert await command.json("files", "delete", file["id"]) == {"deleted": file["id"]}
    assert (await command.run("files", "list"))[0] == 1


async def test_how_far_an_upload_is_shows_on_a_terminal(
    command: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nowhere else."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("FLEETGATE_FILE_STORE", str(tmp_path / "store"))
    organization = (await command.json("organizations", "create", "Acme"))["id"]
    image = tmp_path / "manual.pdf"
    image.write_bytes(bytes(600_000))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    await command.run("files", "upload", "--organization", organization, image, "--type", "manual")
    assert "100 % [##############################] 0.6 MB, " in terminal.getvalue()
