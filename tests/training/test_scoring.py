"""What the job computes in batches is what evaluation computes machine by machine."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flink_jobs import commissioning, evaluate, scoring
from flink_jobs.cleaning import Rules
from flink_jobs.features import Features
from flink_jobs.model import Detector
from flink_jobs.plant import Channel, MachineType
from flink_jobs.tools.train import Fleet, build
from flink_jobs.windows import Windows, pack

READINGS = 400
WINDOW_MS, SLIDE_MS = 30_000, 10_000
TYPE = MachineType(
    name="pump",
    channels=tuple(Channel(name, "", 0, 1) for name in ("flow", "heat", "noise")),
    window_s=30,
    slide_s=10,
    commissioning_readings=READINGS,
)
NO_FLEET = Fleet(*(np.zeros(3) for _ in range(4)))
AS_THEY_ARE = [Rules()] * 3


@pytest.fixture(scope="module")
def detector():
    return Detector(build(NO_FLEET, TYPE, [], seed=0, threshold=4.0))


def recording(seed, gaps=0.0):
    """Readings of one machine about once a second; `gaps` is the share of missing values."""
    random = np.random.default_rng(seed)
    ts = np.sort(random.choice(np.arange(7_000, 900_000, 500), 900, replace=False))
    values = random.normal([32, 70, 5], [0.5, 0.1, 1], (900, 3))
    values[random.random(values.shape) < gaps] = np.nan
    return ts, values


def as_flink_packs(ts, values, ends, random):
    """The windows that end at `ends`, whatever the order in which their readings came."""
    packed = []
    for end in ends:
        inside = np.flatnonzero((ts >= end - WINDOW_MS) & (ts < end))
        random.shuffle(inside)
        packed.append(pack(ts[inside], values[inside]))
    return packed


@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_a_machines_reference_is_that_of_its_first_readings(gaps):
    ts, values = recording(1, gaps)
    expected = commissioning.reference(ts[:READINGS], values[:READINGS], 30, 10)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(ts))
        packed = [pack(ts[order], values[order])]
        (found,) = scoring.machine_references(packed, AS_THEY_ARE, READINGS, 30, 10)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_a_batch_of_several_machines_scores_as_each_does_offline(detector, gaps):
    random = np.random.default_rng(2)
    rows, expected = [], []
    for seed in range(4):
        ts, values = recording(seed, gaps)
        ends, scores = evaluate.score_offline(detector, AS_THEY_ARE, ts, values)
        normal = commissioning.reference(ts[:READINGS], values[:READINGS], 30, 10)
        packed = as_flink_packs(ts, values, ends, random)
        rows += [
            (commissioning.pack(normal) if end > ts[READINGS - 1] else None, window)
            for end, window in zip(ends, packed, strict=True)
        ]
        expected += scores.tolist()
    mixed = random.permutation(len(rows))
    references, packed = zip(*(rows[row] for row in mixed), strict=True)
    table = scoring.score_windows(detector, AS_THEY_ARE, references, packed, top=3).columns
    assert np.isfinite(table["score"]).sum() > 100
    np.testing.assert_allclose(table["score"], np.array(expected)[mixed], rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_the_order_of_readings_does_not_matter_even_at_equal_times(detector, seed, rows):
    random = np.random.default_rng(seed)
    ts = random.integers(0, 5, rows) * 1000
    values = random.normal([32, 70, 5], [0.5, 0.1, 1], (rows, 3))
    normal = commissioning.pack(commissioning.reference(*recording(0), 30, 10))

    def score(order):
        packed = [pack(ts[order], values[order])]
        return scoring.score_windows(detector, AS_THEY_ARE, [normal], packed, top=3)

    expected, found = score(np.arange(rows)), score(random.permutation(rows))
    for name, column in expected.columns.items():
        np.testing.assert_array_equal(found.columns[name], column)
    assert expected.duplicates == found.duplicates == rows - len(set(ts.tolist()))


RULES = [
    Rules(stuck_after_s=2, outliers=3, gap="interpolate", gap_max_s=3),
    Rules(outliers=4, gap="hold", gap_max_s=2),
    Rules(stuck_after_s=3),
]


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from([1, 2, 9, 10, 10, 10, 30]), min_size=1, max_size=12),
    st.sets(st.integers(1, 11)),
)
def test_the_same_windows_give_the_same_results_whatever_batch_they_are_in(
    detector, seed, lengths, cuts
):
    random = np.random.default_rng(seed)
    normal = [
        commissioning.pack(scoring.clean_reference(ts[:READINGS], values[:READINGS], RULES, 30, 10))
        for ts, values in (recording(machine) for machine in range(2))
    ]
    references = [[*normal, None][random.integers(3)] for _ in lengths]
    packed = []
    for rows in lengths:
        values = np.round(random.normal([32, 70, 5], [0.5, 0.1, 1], (rows, 3)), 1)
        values[random.random(values.shape) < 0.05] += 10
        values[random.random(values.shape) < random.choice([0, 0.2])] = np.nan
        packed.append(pack(random.integers(0, 90, rows) * 500, values))

    def score(batch):
        found = scoring.score_windows(
            detector, RULES, [references[k] for k in batch], [packed[k] for k in batch], top=3
        )
        counts = [*found.repaired.values(), [found.duplicates]]
        return found.columns, np.concatenate(counts)

    order = random.permutation(len(lengths))
    batches = [part for part in np.split(order, sorted(cuts)) if len(part)]
    tables, counts = zip(*map(score, batches), strict=True)
    together, all_counts = score(np.arange(len(lengths)))
    assert np.sum(counts, axis=0).tolist() == all_counts.tolist()
    for name, column in together.items():
        found = np.concatenate([table[name] for table in tables])
        # onnxruntime adds up three channels in an order that depends on the row.
        ulps = 4 if name.startswith("share") else 0
        np.testing.assert_array_max_ulp(found, column[order], ulps)


def test_windows_are_cleaned_by_the_scales_of_their_own_machine(detector):
    """A spike in a calm machine's heat is none in that of a restless one."""
    rules = [Rules(), Rules(outliers=6, gap="interpolate", gap_max_s=5), Rules()]
    ts, values = recording(0)
    calm = scoring.clean_reference(ts[:READINGS], values[:READINGS], rules, 30, 10)
    restless = commissioning.reference(ts[:READINGS], values[:READINGS] * [1, 30, 1], 30, 10)
    window = values[:30].copy()
    window[10, 1] += 3
    packed = [pack(ts[:30], window)] * 3
    references = [commissioning.pack(calm), None, commissioning.pack(restless)]
    found = scoring.score_windows(detector, rules, references, packed, top=1)
    counts = {kind: counts.tolist() for kind, counts in found.repaired.items()}
    assert counts == {"stuck": [0, 0, 0], "outliers": [0, 1, 0], "filled": [0, 1, 0]}
    raw = scoring.score_windows(detector, AS_THEY_ARE, references[:1], packed[:1], top=1)
    assert found.columns["score"][0] < detector.threshold < raw.columns["score"][0]


def test_first_readings_are_cleaned_before_they_make_the_reference():
    random = np.random.default_rng(5)
    # Pressure is quantised: more than half of its readings are equal, and the others no outliers.
    quantised = random.choice([1.0, 1.0, 1.0, 1.1], READINGS)
    values = np.column_stack([random.normal(50, 0.1, READINGS), quantised, np.full(READINGS, 32.0)])
    ts = np.arange(READINGS) * 1000
    expected = commissioning.reference(ts, values, 30, 10)
    spiked = values.copy()
    spiked[[100, 250], 0] += 5
    found = scoring.clean_reference(ts, spiked, [Rules(outliers=6)] * 3, 30, 10)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=1e-3)
    np.testing.assert_array_equal(found.reshape(-1, 3)[:, 1:], expected.reshape(-1, 3)[:, 1:])


def test_what_was_repaired_is_for_the_model_to_see():
    rules = [Rules(stuck_after_s=5), Rules(), Rules()]
    features = Features(["flow.stuck", "flow.count"], TYPE.channel_names, TYPE.name)
    ts, values = recording(0)
    normal = commissioning.reference(ts, values, 30, 10)
    stuck = Windows.of_one(
        np.arange(10) * 1000, np.where(np.arange(10)[:, None] > 3, 7.0, values[:10])
    )
    found, _ = scoring.cleaned_features(features, rules, stuck, normal[None])
    assert found.tolist() == [[6, 4]]


def one_window(detector, *references, shift=(0, 0, 0), top=3):
    """The same window once for each reference."""
    values = np.random.default_rng(3).normal([32, 70, 5], [0.5, 0.1, 1], (30, 3)) + shift
    packed = [pack(np.arange(30) * 1000, values)] * len(references)
    references = [None if one is None else commissioning.pack(one) for one in references]
    return scoring.score_windows(detector, AS_THEY_ARE, references, packed, top).columns


def test_a_window_without_a_reference_is_not_scored_and_does_not_disturb_the_others(detector):
    normal = commissioning.reference(*recording(0), 30, 10)
    alone = one_window(detector, normal)
    table = one_window(detector, None, normal, np.full_like(normal, np.nan))
    for name, column in table.items():
        assert column[1] == alone[name][0]
        for row in (0, 2):
            assert column[row] == 0 if name.startswith("cause") else np.isnan(column[row])
    assert np.isnan(one_window(detector, None)["score"]).all()


def test_the_causes_of_a_score_are_named_from_the_greatest_on(detector):
    normal = commissioning.reference(*recording(0), 30, 10)
    table = one_window(detector, normal, shift=(0, 3, 1))
    assert list(table) == ["score", "cause1", "share1", "cause2", "share2", "cause3", "share3"]
    causes = [TYPE.channel_names[table[f"cause{rank}"][0] - 1] for rank in (1, 2, 3)]
    assert causes == ["heat", "noise", "flow"]
    shares = [table[f"share{rank}"][0] for rank in (1, 2, 3)]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert "cause2" not in one_window(detector, normal, top=1)


def test_equal_shares_keep_the_order_of_the_channels(detector):
    random = np.random.default_rng(4)
    normal = commissioning.reference(
        np.arange(400) * 1000, np.repeat(random.normal(5, 1, (400, 1)), 3, axis=1), 30, 10
    )
    packed = [pack(np.arange(30) * 1000, np.repeat(random.normal(9, 1, (30, 1)), 3, axis=1))]
    table = scoring.score_windows(
        detector, AS_THEY_ARE, [commissioning.pack(normal)], packed, 3
    ).columns
    assert table["share1"] == table["share2"] == table["share3"]
    assert [table[f"cause{rank}"][0] for rank in (1, 2, 3)] == [1, 2, 3]
