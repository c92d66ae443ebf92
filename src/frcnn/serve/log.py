"""Logs as JSON lines. They hold no image, no token and no address of an image."""

import json
import logging
import time
import traceback
from typing import TextIO

_OWN = frozenset(vars(logging.makeLogRecord({})))
"""Attributes that every record has; others are the fields of an event."""


class JsonLines(logging.Formatter):
    """A record as one line of ASCII, so that no client can write a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        written = time.gmtime(record.created)
        line = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', written)}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _OWN and name != "color_message"}
        if record.exc_info and record.exc_info[1]:
            line["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(line, default=str)


def log_to(stream: TextIO) -> None:
    """Write the log of the service, and what its packages warn of, to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.captureWarnings(True)
    for name in ("frcnn.serve", "uvicorn.error", "asyncio", "py.warnings"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "frcnn.serve" else logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of each wrong body
