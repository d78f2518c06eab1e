"""Thresholds that are shown together can be told apart."""

import pytest

from hf_autojudge.evaluation.threshold_labels import threshold_labels


@pytest.mark.parametrize(
    ("thresholds", "labels"),
    [
        ([0.1234, 0.5], ["0.12", "0.5"]),
        ([0.7651, 0.7749], ["0.765", "0.775"]),
        ([1e-7, 1.2e-7], ["1e-07", "1.2e-07"]),
        ([0.3, 0.3], ["0.3", "0.3"]),
        ([0.0, 1.0], ["0", "1"]),
        ([], []),
    ],
)
def test_labels(thresholds, labels):
    assert threshold_labels(thresholds) == labels


def test_the_smallest_difference():
    one, other = 0.1 + 0.2, 0.3
    labels = threshold_labels([one, other, 0.5])
    assert list(map(float, labels)) == [one, other, 0.5]
    assert threshold_labels([0.12344, 0.5], digits=4) == ["0.1234", "0.5"]
