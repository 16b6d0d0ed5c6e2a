"""Log files of the stack on one machine stay bounded while their writers live."""

from pathlib import Path

from gateway.cli.local import log_files


def test_a_long_file_begins_anew_under_a_writer_that_goes_on(tmp_path: Path) -> None:
    """What it held is kept beside it, once; the writer's next line is the first of the new one."""
    path = tmp_path / "edge-0.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"a" * 100)
        log_files.shorten(path, bytes_max=100)
        assert path.stat().st_size == 100
        writer.write(b"b\n")
        log_files.shorten(path, bytes_max=100)
        writer.write(b"c\n")
    assert path.read_bytes() == b"c\n"
    assert log_files.kept(path).read_bytes() == b"a" * 100 + b"b\n"
    log_files.shorten(tmp_path / "none.log")
    assert log_files.begun(tmp_path, "edge-0") == tmp_path / "log" / "edge-0.log"
