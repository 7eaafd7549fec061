"""The Java aggregate `pack` gives the bytes that flink_jobs.windows reads, whatever came first."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flink_jobs import windows


@st.composite
def readings(draw):
    """ts (n,) and values (n, C): times often equal, values of all signs, some missing."""
    count, channels = draw(st.integers(1, 40)), draw(st.integers(1, 4))
    ts = draw(arrays.arrays(np.int64, count, elements=st.integers(-3, 20) | st.integers(0, 2**47)))
    number = st.sampled_from([0.0, -0.0, 1.0, -1.0, 256.0, np.nan]) | st.floats(allow_nan=False)
    return ts, draw(arrays.arrays(np.float64, (count, channels), elements=number))


def in_parts(ts, values, cuts):
    """The readings as several tasks would collect them; a part may be empty."""
    bounds = [0, *sorted(cut % (len(ts) + 1) for cut in cuts), len(ts)]
    return [(ts[first:stop], values[first:stop]) for first, stop in pairwise(bounds)]


@settings(max_examples=300)
@given(readings(), st.lists(st.integers(0, 40), max_size=4), st.randoms())
def test_order_and_parts_of_arrival_do_not_matter(jvm, one, cuts, random):
    ts, values = one
    order = list(range(len(ts)))
    random.shuffle(order)
    merged, joined = zip(
        *jvm.pack([in_parts(ts, values, []), in_parts(ts[order], values[order], cuts)]),
        strict=True,
    )
    assert {*merged, *joined} == {windows.pack(ts, values)}


def test_long_windows(jvm):
    rng = np.random.default_rng(1)
    ts, values = rng.permutation(100_000), rng.normal(size=(100_000, 4))
    ((merged, joined),) = jvm.pack([in_parts(ts, values, [30_000])])
    assert merged == joined == windows.pack(ts, values)


def test_a_reading_sent_again_is_a_declared_duplicate(jvm):
    ts, values = np.array([5, 5, 6]), np.array([[2.0], [2.0], [np.nan]])
    ((merged, _),) = jvm.pack([in_parts(ts, values, [1])])
    unpacked, duplicates = windows.unpack([merged], channels=1)
    assert unpacked.ts.tolist() == [5, 6]
    assert duplicates.tolist() == [1]
