"""What rows of the log add up to: counted by Postgres, and again in files, they tell that nothing is missing there."""

import pyarrow as pa
import pyarrow.compute as pc


class Sums:
    """Their number, and sums over what they hold. Equal for equal rows."""

    __slots__ = ("data_bytes", "first_seq", "label_bytes", "last_seq", "rows", "seqs", "stored_us", "times_us")

    def __init__(self) -> None:
        self.rows = self.seqs = self.times_us = self.stored_us = self.data_bytes = self.label_bytes = 0
        self.first_seq = self.last_seq = 0

    def __repr__(self) -> str:
        return f"<Sums {self.all()}>"

    def all(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(getattr(self, name) for name in Sums.__slots__)

    def add(self, table: pa.Table) -> None:
        """Count rows as a file holds them."""
        some, seqs = Sums(), table["seq"].to_pylist()
        some.rows, some.seqs, some.first_seq, some.last_seq = len(seqs), sum(seqs), min(seqs), max(seqs)
        # In Python, whose integers hold the sum of a million times in µs.
        some.times_us = sum(table["ts"].cast(pa.int64()).to_pylist())
        some.stored_us = sum(table["stored_at"].cast(pa.int64()).to_pylist())
        some.data_bytes = pc.sum(pc.binary_length(table["data"])).as_py() or 0
        some.label_bytes = pc.sum(pc.binary_length(table["labels"])).as_py() or 0
        self.merge(some)

    def merge(self, others: "Sums") -> None:
        """Count what other rows add up to, of which there are some."""
        self.first_seq = min(self.first_seq, others.first_seq) if self.rows else others.first_seq
        self.last_seq = max(self.last_seq, others.last_seq)
        for name in ("rows", "seqs", "times_us", "stored_us", "data_bytes", "label_bytes"):
            setattr(self, name, getattr(self, name) + getattr(others, name))
