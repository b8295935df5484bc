"""Logs of the server: one JSON object a line, without anything that a client sent but its request id and route.

Of an exception in a request the message is left out, because libraries put what they were given into it; the frames
say where it was.
"""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any


class JsonLines(logging.Formatter):
    """Time, level, logger and message of a record, the map that it carries as ``fields``, and where it was raised."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            if not record.name.startswith("emollm.serve"):
                line["reason"] = str(error)[:500]  # why the engine failed, which is not about one request
            frames = traceback.extract_tb(error.__traceback__)
            line["error"] = type(error).__name__
            line["frames"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
        return json.dumps(line, ensure_ascii=False)


def log_configuration(level: str) -> dict[str, Any]:
    """For ``logging.config``: JSON lines on standard error; the server from INFO on, libraries from ``level`` on."""
    quiet = {"level": level, "handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "emollm.serve.logs.JsonLines"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {"vllm": quiet, "uvicorn": quiet, "emollm.serve": {"level": "INFO"}},
    }
