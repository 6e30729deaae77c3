"""Structured logs on stderr: JSON for machines, coloured lines for a terminal."""

import logging
import sys
from typing import Final

import structlog

# Without the frames' variables, among which users' words and keys would be.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))

_GRPC: Final = "grpc._cython.cygrpc"
_ABOUT_CALLERS: Final = ("Invalid encoding", "ExecuteBatchError raised")


def configure(level: str) -> None:
    """Set up logging for this process; `level` is a name such as INFO."""
    number = logging.getLevelNamesMapping()[level.upper()]
    pretty = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if pretty
        else [_TRACEBACKS, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger(_GRPC).addFilter(_is_of_ours)


def _is_of_ours(record: logging.LogRecord) -> bool:
    """Keep out what any caller can have grpc log: metadata that is no UTF-8, as it is, and that somebody has left."""
    return not str(record.msg).startswith(_ABOUT_CALLERS)
