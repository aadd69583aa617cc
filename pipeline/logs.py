"""Log lines: ours and the libraries' in one form, on the real stderr, nobody's without end."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal

import structlog
import structlog.tracebacks
from structlog.typing import Processor

QUIET_LIBRARIES: Final = ("aiokafka", "faust", "mode", "uvicorn", "asyncio", "aiohttp", "clickhouse_connect")
"""Heard from WARNING on, and each line of theirs at most every `REPEAT_SECONDS`."""

REPEAT_SECONDS: Final = 30.0
_REMEMBERED: Final = 1000


class RepeatFilter(logging.Filter):
    """Passes a library's line once, then at most every `REPEAT_SECONDS`, with the number of those left out.

    Lines are the same when logger, level and template are: what is filled in does not count. aiokafka, which
    logs every attempt to connect, wrote 16,842 lines in one outage of a broker.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING and str(record.msg).startswith("[^"):
            return False  # each service of Faust tells its life, under the name of whoever's class it is
        if record.name.partition(".")[0] not in QUIET_LIBRARIES:
            return True
        line = (record.name, record.levelno, str(record.msg))
        now = self._clock()
        passed_at, left_out = self._seen.get(line, (None, 0))
        if passed_at is not None and now - passed_at < REPEAT_SECONDS:
            self._seen[line] = (passed_at, left_out + 1)
            return False
        if len(self._seen) >= _REMEMBERED:
            # Templates are few; a library that fills them in before it logs must not make us grow.
            self._seen.clear()
        self._seen[line] = (now, 0)
        if left_out:
            record.msg = f"{record.getMessage()} (and {left_out} more like it since)"
            record.args = None
        return True


def set_up(log_format: Literal["auto", "console", "json"], *, process: str) -> None:
    """Send every log line of this process to stderr, ours (structlog or logging) from INFO on.

    `process` names the command in each line: under `up` several share one stderr. `auto` is console on a
    terminal, else JSON.
    """
    stream = sys.__stderr__ or sys.stderr  # Faust may replace sys.stderr, and breaks what is written there
    is_console = log_format == "console" or (log_format == "auto" and stream.isatty())

    def name_process(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        return {"process": process, **event}

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_process,
    ]
    last: list[Processor]
    # Tracebacks never show local variables: among them are passwords.
    if is_console:
        plain = structlog.dev.plain_traceback
        last = [
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), sort_keys=False, exception_formatter=plain)
        ]
    else:
        last = [
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ]
    handler = logging.StreamHandler(stream)
    handler.addFilter(RepeatFilter())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in QUIET_LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda of: _log_uncaught(of.exc_type, of.exc_value, of.exc_traceback, of.thread)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _log_uncaught(
    exc_type: type[BaseException],
    error: BaseException | None,
    traceback: TracebackType | None,
    thread: threading.Thread | None = None,
) -> None:
    """What nobody caught is a log line like any other: a raw traceback among JSON is lost to whatever collects it."""
    if error is None or issubclass(exc_type, KeyboardInterrupt):
        return
    where = "the main thread" if thread is None else thread.name
    logging.getLogger(__name__).critical(
        "an exception ended %s", where, exc_info=(exc_type, error, traceback)
    )
