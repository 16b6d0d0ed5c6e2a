"""Log files of the stack on one machine stay bounded while their writers live."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.local import log_files


@pytest.mark.parametrize("can_cut", [True, False])
def test_a_long_file_begins_anew_under_a_writer_that_goes_on(
    tmp_path: Path, can_cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it held is kept beside it, once, and joins what it holds; whether or not the file system can cut files."""
    if not can_cut:
        monkeypatch.setattr(log_files, "_cut", lambda *_: False)
    path = tmp_path / "edge-0.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"a" * 10_000)
        log_files.shorten(path, bytes_max=10_000)
        assert path.stat().st_size == 10_000
        writer.write(b"b\n")
        log_files.shorten(path, bytes_max=10_000)
        writer.write(b"c\n")
    assert log_files.kept(path).read_bytes() + path.read_bytes() == b"a" * 10_000 + b"b\nc\n"
    assert path.stat().st_size < 10_000
    log_files.shorten(tmp_path / "none.log")
    assert log_files.begun(tmp_path, "edge-0") == tmp_path / "log" / "edge-0.log"


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder where logs would be: that of other tests is in memory, where files cannot be cut."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


def test_no_line_is_lost_that_is_written_while_a_file_is_shortened(
    on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays in the file, behind what was kept."""
    path, cut, lines = on_disk / "edge-0.log", log_files._cut, [b"line %d\n" % n for n in range(2_000)]
    path.write_bytes(b"".join(lines))
    with path.open("ab", buffering=0) as writer:

        def cut_behind_a_writer(file: int, length: int) -> bool:
            writer.write(b"in between\n")
            return cut(file, length)

        monkeypatch.setattr(log_files, "_cut", cut_behind_a_writer)
        log_files.shorten(path, bytes_max=10_000)
    if path.stat().st_size == 0:
        pytest.skip("the file system knows no cuts")
    assert log_files.kept(path).read_bytes() + path.read_bytes() == b"".join([*lines, b"in between\n"])
    assert path.stat().st_size < 10_000
