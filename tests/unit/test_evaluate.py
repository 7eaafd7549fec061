import math

import numpy as np
import pytest

from flink_jobs.evaluate import Counts, count, f_quantile, row_verdicts, t2q_verdicts


def test_rates_of_counts():
    counts = Counts(true_alerts=6, false_alerts=2, missed=4, quiet=8)
    assert counts.f1 == pytest.approx(12 / 18)
    assert counts.far == pytest.approx(20)
    assert counts.mar == pytest.approx(40)
    assert math.isnan(Counts().f1)


def test_counts_compare_row_by_row_and_add_up():
    alerts = np.array([True, True, False, False])
    truth = np.array([True, False, True, False])
    assert count(alerts, truth) == Counts(1, 1, 1, 1)
    assert Counts(1, 2, 3, 4) + Counts(1, 1, 1, 1) == Counts(2, 3, 4, 5)


def test_a_row_takes_the_verdict_of_the_newest_window_that_has_ended():
    ends = np.array([20, 10])
    alerts = np.array([False, True])
    ts = np.array([9, 10, 19, 20, 500])
    assert row_verdicts(ts, ends, alerts).tolist() == [False, True, True, False, False]
    assert not row_verdicts(ts, ends[:0], alerts[:0]).any()


@pytest.mark.parametrize(
    ("p", "d1", "d2", "expected"),
    # Tables of the F distribution.
    [(0.95, 1, 10, 4.9646), (0.99, 5, 20, 4.1027), (0.95, 10, 120, 1.9105), (0.99, 2, 60, 4.9774)],
)
def test_quantiles_of_the_f_distribution(p, d1, d2, expected):
    assert f_quantile(p, d1, d2) == pytest.approx(expected, abs=2e-4)


def test_t2q_is_quiet_on_noise_and_sees_a_shift_and_a_broken_correlation():
    random = np.random.default_rng(3)
    common = random.normal(size=(1200, 1))
    values = np.hstack([common + random.normal(0, 0.1, (1200, 1)) for _ in range(3)])
    values = np.hstack([values, random.normal(size=(1200, 2)), np.full((1200, 1), 7.0)])
    shifted, broken = values.copy(), values.copy()
    shifted[800:] += 6
    broken[800:, 0] *= -1
    assert t2q_verdicts(values, 400)[400:].mean() < 0.01
    assert t2q_verdicts(shifted, 400)[805:].all()
    assert t2q_verdicts(broken, 400)[805:].mean() > 0.5
