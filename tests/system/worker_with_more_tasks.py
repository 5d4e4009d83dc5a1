"""A worker that knows one more task than ours: what an unknown task looks like once it is known."""

from tasks.celery import app


@app.task(name="billing.invoice")
def invoice(number: int, log: str) -> None:
    """Leave a trace that the task has run."""
    with open(log, "a", encoding="utf-8") as trace:  # noqa: PTH123 - one line
        trace.write(f"{number}\n")
