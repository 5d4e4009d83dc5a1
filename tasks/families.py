"""The declared metrics as Prometheus' client library has them, and nothing but those."""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from config.metrics import METRICS, PREFIX

_FAMILIES: Final[Mapping[str, type[CounterMetricFamily] | type[GaugeMetricFamily] | type[HistogramMetricFamily]]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}
_MICROS: Final = 1e6


class Families:
    """One look at all metrics. A name that is not declared raises KeyError, other labels than declared ValueError."""

    def __init__(self, *, web: bool) -> None:
        """`web`: those that web processes alone tell, too."""
        self._families = {
            name: _FAMILIES[metric.kind](PREFIX + name, metric.doc, labels=metric.labels)
            for name, metric in METRICS.items()
            if web or not metric.web
        }

    def add(self, name: str, value: float, *labels: str) -> None:
        """Tell a counter's or a gauge's value."""
        family = self._labelled(name, labels)
        if isinstance(family, HistogramMetricFamily):
            raise TypeError(f"{name} is a histogram")
        family.add_metric(labels, value)

    def observed(self, name: str, found: Mapping[str, int], *labels: str) -> None:
        """Tell a histogram: numbers by the upper bound of their bucket (as text), and the sum in microseconds as "sum".

        Bounds that are declared no more count with the next larger one.
        """
        family = self._labelled(name, labels)
        if not isinstance(family, HistogramMetricFamily):
            raise TypeError(f"{name} is no histogram")
        bounds = [*METRICS[name].bounds, float("inf")]
        numbers = dict.fromkeys(bounds, 0)
        for bound, number in found.items():
            if bound != "sum":
                numbers[next(each for each in bounds if each >= float(bound))] += number
        # Floats as Prometheus writes them: 1 and 1.0 would be two buckets to it.
        buckets = [
            ("+Inf" if bound == float("inf") else str(float(bound)), float(total))
            for bound, total in zip(bounds, accumulate(numbers.values()), strict=True)
        ]
        family.add_metric(labels, buckets, found.get("sum", 0) / _MICROS)

    def all(self) -> Iterable[Metric]:
        """What was told."""
        return self._families.values()

    def __contains__(self, name: str) -> bool:
        return name in self._families

    def _labelled(
        self, name: str, labels: tuple[str, ...]
    ) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
        if len(labels) != len(METRICS[name].labels):
            raise ValueError(f"{name} has the labels {METRICS[name].labels}, not {labels}")
        return self._families[name]
