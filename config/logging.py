"""One line an event, machine-readable; identifiers, never payloads, never secrets."""

import logging
import sys
from collections.abc import Mapping
from typing import Any

import structlog

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
]


def configure(level: str, style: str) -> None:
    """Send structlog and the standard library's loggers to standard error in one form.

    style is "json" or "console". Exceptions appear as class and place only: their texts may quote what a sender sent.
    """
    renderer: Any = (
        structlog.processors.JSONRenderer(default=str)
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(without_quotations)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                without_exception_text,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Celery warns at each reconnect of what it may change in a later version.
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    # botocore's DEBUG has requests with their signatures, and answers with what people wrote.
    for noisy in ("botocore", "celery.app.trace", "celery.worker.strategy", "urllib3", "kombu"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def without_quotations(record: logging.LogRecord) -> bool:
    """Let every line pass, but libraries' ones without the exceptions that they quote, or what a task gave back.

    What a connection says of itself stays: it quotes nobody, and tells what to mend.
    """
    if isinstance(record.args, Mapping):
        record.args = {**record.args, **{key: "…" for key in ("exc", "return_value") if key in record.args}}
    elif record.args:
        record.args = tuple(_unquoted(value) for value in record.args)
    return True


def _unquoted(value: object) -> object:
    if not isinstance(value, BaseException) or isinstance(value, OSError):
        return value
    name = type(value).__name__
    return value if name.endswith(("ConnectionError", "TimeoutError", "OperationalError")) else name


def without_exception_text(_logger: Any, _method: str, fields: Any) -> Any:
    """Replace exception information by the exception's class and the place that raised it."""
    info = fields.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    if isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if info and info[0] is not None:
        trace = info[2]
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        fields["exception"] = info[0].__name__
        if trace is not None:
            fields["raised_at"] = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
    return fields
