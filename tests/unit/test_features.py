import numpy as np
import pytest

from flink_jobs.features import feature_names, window_features, windows_features

NAN = np.nan


def features_of(rows):
    values = np.array(rows, dtype=float)
    return window_features(np.arange(len(values)) * 1000, values)


def test_names_follow_the_order_of_the_features():
    assert feature_names(["a", "b"]) == ("a.mean", "b.mean", "a.std", "b.std", "a.count", "b.count")


def test_mean_sample_deviation_and_count_of_each_channel():
    found = features_of([[1, 10], [2, 10], [6, 10]])
    np.testing.assert_allclose(found, [3, 10, np.sqrt(7), 0, 3, 3])


def test_missing_values_are_left_out_channel_by_channel():
    found = features_of([[1, NAN], [NAN, NAN], [3, NAN]])
    np.testing.assert_allclose(found, [2, NAN, np.sqrt(2), NAN, 2, 0])


def test_one_reading_has_a_mean_but_no_deviation():
    np.testing.assert_allclose(features_of([[5.0]]), [5, NAN, 1])


def test_tiny_variations_on_a_large_value_survive():
    found = features_of([[1013.1], [1013.1001], [1013.1002]])
    assert found[1] == pytest.approx(1e-4, rel=1e-6)


def test_windows_in_one_call_equal_windows_one_by_one():
    random = np.random.default_rng(1)
    values = random.normal(1000, 1, (500, 4))
    values[random.random(values.shape) < 0.1] = NAN
    starts = np.array([0, 1, 3, 60, 61, 300])
    parts = np.split(values, starts[1:])
    one_by_one = np.stack([window_features(np.arange(len(part)), part) for part in parts])
    np.testing.assert_array_equal(windows_features(values, starts), one_by_one)


@pytest.mark.parametrize("starts", [[], [1], [0, 2, 2], [0, 5]])
def test_empty_windows_and_uncovered_rows_are_refused(starts):
    with pytest.raises(ValueError, match="at least one reading"):
        windows_features(np.zeros((5, 2)), np.array(starts, dtype=np.intp))


def test_times_and_values_must_belong_together():
    with pytest.raises(ValueError, match="belong together"):
        window_features(np.arange(3), np.zeros((2, 1)))
