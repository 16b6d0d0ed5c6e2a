"""Structured logs: one JSON object a line on stderr, `event` first, no secrets.

logs.event(log, logging.INFO, "shard_acquired", shard=3)
"""

import logging
import sys
import time
from typing import Any

import msgspec


class _Formatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def configure(process: str, level: str) -> None:
    """Send this process's logs to stderr. Libraries speak from warning upwards only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(process))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("gateway", "workers", "schemas"):
        logging.getLogger(name).setLevel(level.upper())


def event(logger: logging.Logger, level: int, name: str, **fields: Any) -> None:
    """Log one event with its fields."""
    if logger.isEnabledFor(level):
        logger.log(level, name, extra={"fields": fields})


def failure(logger: logging.Logger, level: int, name: str, error: BaseException, **fields: Any) -> None:
    """Log one event with its fields, and the cause and trace of an error."""
    logger.log(level, name, exc_info=error, extra={"fields": {**fields, "cause": repr(error)}})
