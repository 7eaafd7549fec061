import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flink_jobs.commissioning import FIELDS, pack, reference, references, unpack
from flink_jobs.windows import Windows

SECOND = 1000


def fields_of(values, ts=None, window_s=30, slide_s=10):
    values = np.asarray(values, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    ts = np.arange(len(values)) * SECOND if ts is None else ts
    found = reference(np.asarray(ts, dtype=np.int64), values, window_s, slide_s)
    assert found.shape == (len(FIELDS) * values.shape[1],)
    return dict(zip(FIELDS, found.reshape(len(FIELDS), -1), strict=True))


@pytest.fixture
def noise():
    return np.random.default_rng(7).normal(50, 2, 400)


def test_scatter_gives_location_scale_and_small_strays(noise):
    found = fields_of(noise)
    assert found["location"] == pytest.approx(50, abs=0.6)
    assert found["scale"] == pytest.approx(2, rel=0.1)
    assert found["count"] == 30
    # Means of 30 independent readings scatter by 2 / √30.
    assert found["mean_stray"] == pytest.approx(2 / np.sqrt(30), rel=0.5)


def test_a_drifting_channel_may_stray_far_beyond_what_it_did(noise):
    drift = np.linspace(0, 2, 400) + (noise - 50) / 40
    assert fields_of(drift)["mean_stray"] > 5 * np.std(drift)


def test_location_is_where_commissioning_ended_and_the_way_there_counts_as_stray(noise):
    moved = np.where(np.arange(400) < 250, noise, noise + 4)
    found = fields_of(moved)
    assert found["location"] == pytest.approx(54, abs=0.7)
    assert found["mean_stray"] > 2


def test_one_wild_reading_changes_little(noise):
    wild = noise.copy()
    wild[100] = 1e6
    calm, spiked = fields_of(noise), fields_of(wild)
    for field in FIELDS:
        assert spiked[field] == pytest.approx(calm[field], rel=0.2, abs=0.1)


def test_a_still_channel_gets_a_small_scale_and_no_nan():
    found = fields_of(np.full(400, 32.0))
    assert found["scale"] == pytest.approx(0.032)
    assert found["mean_stray"] == 0


def test_missing_channel_is_all_nan_and_harms_no_other(noise):
    found = fields_of(np.column_stack([noise, np.full(400, np.nan)]))
    alone = fields_of(noise)
    for field in FIELDS:
        assert found[field][0] == pytest.approx(alone[field][0], rel=1e-9)
        assert np.isnan(found[field][1])


def test_scattered_missing_values_are_bridged(noise):
    holed = noise.copy()
    holed[::3] = np.nan
    found = fields_of(holed)
    assert found["location"] == pytest.approx(50, abs=0.8)
    assert found["count"] == pytest.approx(20, abs=0.5)


def test_reference_does_not_depend_on_the_clock(noise):
    ts = np.arange(400) * SECOND
    shifted = fields_of(noise, ts + 1_583_748_877_123)
    for field, value in fields_of(noise, ts).items():
        np.testing.assert_array_equal(shifted[field], value)


def test_reference_does_not_depend_on_how_the_values_lie_in_memory(noise):
    values = np.stack([noise, noise**2, np.cumsum(noise)], axis=1)
    found = [reference(np.arange(400), np.array(values, order=o), 0.03, 0.01) for o in "CF"]
    assert found[0].tobytes() == found[1].tobytes()


def test_a_gap_in_the_data_is_no_unusual_window(noise):
    gap = np.arange(400) * SECOND + np.where(np.arange(400) >= 200, 86_400_000, 0)
    assert fields_of(noise, gap)["mean_stray"] == pytest.approx(
        fields_of(noise)["mean_stray"], rel=0.5
    )


@pytest.mark.parametrize("interval_ms", [10, 100, 60_000])
def test_any_rate_of_readings_gives_a_reference(noise, interval_ms):
    found = fields_of(noise, np.arange(400) * interval_ms)
    assert found["location"] == pytest.approx(50, abs=0.6)
    assert np.isfinite(found["mean_stray"]).all()


def test_readings_all_at_one_time_say_nothing(noise):
    assert np.isnan(fields_of(noise, np.zeros(400))["scale"]).all()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 3))
def test_machines_together_have_the_references_each_has_alone(seed, machines, channels):
    random = np.random.default_rng(seed)
    alone = []
    for _ in range(machines):
        rows = int(random.integers(1, 60))
        # One time after the other, with gaps; some that are equal, some channels without values.
        ts = int(random.integers(0, 2**42)) + np.cumsum(
            random.choice([0, 1, 1000, 10_000, 10**9], rows, p=[0.05, 0.05, 0.7, 0.17, 0.03])
        )
        values = random.normal(50, random.choice([0, 1e-3, 5]), (rows, channels))
        values[random.random(values.shape) < random.choice([0, 0.2, 1])] = np.nan
        alone.append((ts, values))
    lengths = [len(ts) for ts, _ in alone]
    together = Windows(
        np.concatenate([ts for ts, _ in alone]),
        np.concatenate([values for _, values in alone]),
        np.cumsum(lengths) - lengths,
    )
    found = references(together, 10, 5)
    assert found.tobytes() == b"".join(pack(reference(*one, 10, 5)) for one in alone)


def test_the_tails_are_cut_where_numpys_quantiles_are(noise):
    wild = np.where(np.arange(400) % 40 == 7, 1e3 * noise, noise)
    wild[::9] = np.nan
    cut = np.clip(wild, *np.nanquantile(wild, [0.01, 0.99]))
    assert fields_of(wild)["scale"] == pytest.approx(np.nanstd(cut), rel=1e-12)


def test_references_come_out_of_their_bytes_as_they_went_in():
    references = np.random.default_rng(0).normal(size=(3, 2 * len(FIELDS)))
    references[1, 3] = np.nan
    packed = [pack(one) for one in references]
    assert packed[0] == struct.pack("<12d", *references[0])
    assert unpack(packed, 2).tobytes() == references.tobytes()
    assert unpack([], 2).shape == (0, 12)


@pytest.mark.parametrize("lengths", [(12, 11), (11, 13), (0,)])
def test_a_reference_of_other_channels_is_refused(lengths):
    with pytest.raises(ValueError, match=r"of 2 channels cannot have (0|88) bytes"):
        unpack([pack(np.zeros(length)) for length in lengths], 2)
