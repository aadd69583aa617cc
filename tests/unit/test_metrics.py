"""Metrics: names that say what they count, labels that cannot grow without bound."""

from __future__ import annotations

import re

import pytest
from prometheus_client import Counter, Gauge, Histogram

from pipeline import metrics

METRICS = [value for value in vars(metrics).values() if isinstance(value, Counter | Gauge | Histogram)]
BOUNDED = {"topic", "partition", "reason", "code"}
"""Three topics, the partitions of each, a closed set of reasons, the store's error codes. Never a bot or an address."""


def named(metric: Counter | Gauge | Histogram) -> str:
    """The name as Prometheus sees it."""
    [family] = metric.collect()
    return f"{family.name}_total" if isinstance(metric, Counter) else family.name


@pytest.mark.parametrize("metric", METRICS, ids=named)
def test_a_metric_is_named_for_what_it_counts_and_in_which_unit(metric: Counter | Gauge | Histogram) -> None:
    assert re.fullmatch(r"footfall(_[a-z0-9]+)+", named(metric))
    assert named(metric).endswith("_total") == isinstance(metric, Counter)
    assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|count|sum)(_|$)", named(metric))
    assert not isinstance(metric, Histogram) or named(metric).endswith("_seconds")


@pytest.mark.parametrize("metric", METRICS, ids=named)
def test_labels_are_bounded(metric: Counter | Gauge | Histogram) -> None:
    assert set(metric._labelnames) <= BOUNDED


@pytest.mark.parametrize("metric", METRICS, ids=named)
def test_a_metric_explains_itself_in_a_sentence(metric: Counter | Gauge | Histogram) -> None:
    [family] = metric.collect()
    assert re.fullmatch(r"[A-Z].+\.|[A-Z].+; 0 for none\.", family.documentation)


def test_no_two_metrics_share_a_name() -> None:
    assert len({named(metric) for metric in METRICS}) == len(METRICS) > 10
