import dataclasses

import numpy as np
import onnx
import pytest

from flink_jobs.commissioning import reference
from flink_jobs.features import windows_features
from flink_jobs.model import Detector, Metadata, ModelError
from flink_jobs.plant import Channel, MachineType
from flink_jobs.tools.train import Fleet, build

NAN = np.nan
TYPE = MachineType(
    name="pump",
    channels=tuple(Channel(name, "", 0, 1) for name in ("flow", "heat", "noise")),
    window_s=30,
    slide_s=10,
)
# Nobody's experience: what is expected comes from each machine's own reference.
NO_FLEET = Fleet(*(np.zeros(3) for _ in range(4)))
LONG = 30


def content(fleet=NO_FLEET, threshold=4.0):
    return build(fleet, TYPE, [], seed=0, threshold=threshold)


@pytest.fixture(scope="module")
def detector():
    return Detector(content())


@pytest.fixture(scope="module")
def normal():
    values = np.random.default_rng(1).normal([32, 70, 5], [0.5, 0.1, 1], (400, 3))
    return reference(np.arange(400) * 1000, values, 30, 10)


def score(detector, normal, *windows):
    """Scores of windows given as lists of rows."""
    arrays = [np.atleast_2d(np.array(window, dtype=float)) for window in windows]
    starts = np.cumsum([0, *[len(array) for array in arrays[:-1]]])
    features = windows_features(np.concatenate(arrays), starts)
    return detector.score(features, np.tile(normal, (len(features), 1)))


def window(seed=2, rows=LONG, shift=(0, 0, 0), noisier=(1, 1, 1)):
    spread = np.array([0.5, 0.1, 1]) * noisier
    random = np.random.default_rng(seed)
    return np.array([32, 70, 5]) + shift + spread * random.standard_normal((rows, 3))


def test_normal_windows_score_low_whatever_their_length(detector, normal):
    for rows in (1, 2, 10, 30, 300):
        windows = [window(seed, rows) for seed in range(200)]
        assert np.quantile(score(detector, normal, *windows).score, 0.99) < 5


def test_a_shift_of_the_mean_or_of_the_scatter_scores_high_and_names_its_channel(detector, normal):
    found = score(detector, normal, window(shift=(2, 0, 0)), window(noisier=(1, 4, 1)))
    assert (found.score > 8).all()
    assert found.shares.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(found.shares.sum(axis=1), 1)


def test_a_worse_shift_never_scores_lower(detector, normal):
    windows = [window(shift=(0, 0, shift)) for shift in np.linspace(1, 50, 30)]
    assert (np.diff(score(detector, normal, *windows).score) > 0).all()


def test_a_missing_channel_neither_alarms_nor_hides_another(detector, normal):
    whole, holed = window(shift=(2, 0, 0)), window(shift=(2, 0, 0))
    holed[:, 1] = NAN
    calm = window()
    calm[:, 1] = NAN
    found = score(detector, normal, whole, holed, calm)
    assert found.score[1] == pytest.approx(found.score[0])
    assert found.shares[1, 1] == 0
    assert found.score[2] < 5


def test_nothing_to_compare_is_no_score(detector, normal):
    blind = score(detector, normal, np.full((5, 3), NAN))
    unknown = score(detector, np.full_like(normal, NAN), window())
    assert np.isnan([*blind.score, *unknown.score]).all()
    assert not np.isnan(blind.shares).any()


def test_a_channel_commissioned_without_values_is_left_out(detector, normal):
    partly = normal.reshape(-1, 3).copy()
    partly[:, 0] = NAN
    found = score(detector, partly.ravel(), window(shift=(1e6, 0, 0)))
    assert found.score[0] < 5
    assert found.shares[0, 0] == 0


def test_a_still_channel_gets_the_scatter_usual_in_the_fleet():
    still = np.column_stack([np.full(400, 32.0), np.zeros(400), np.zeros(400)])
    normal = reference(np.arange(400) * 1000, still, 30, 10)
    fleet = Fleet(np.full(3, 0.3), np.full(3, 0.3), np.array([2.0, 0, 0]), np.full(3, 0.25))
    moved = np.column_stack([np.full(LONG, 32.1), np.ones(LONG), np.ones(LONG)])
    strict = score(Detector(content()), normal, moved)
    tolerant = score(Detector(content(fleet)), normal, moved)
    assert strict.score[0] > 10
    assert tolerant.score[0] < 4
    # Channels that never moved anywhere have no scale at all, so they cannot be judged.
    assert strict.shares[0].tolist() == [1, 0, 0]


def test_scores_do_not_depend_on_the_batch(detector, normal):
    windows = [window(seed, shift=(seed % 3, 0, 0)) for seed in range(50)]
    together = score(detector, normal, *windows)
    for index, one in enumerate(windows):
        alone = score(detector, normal, one)
        assert alone.score[0] == together.score[index]
        np.testing.assert_allclose(alone.shares[0], together.shares[index], rtol=1e-12)


def test_a_model_file_says_what_it_is(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(content(threshold=4.25))
    detector = Detector.load(file)
    about = detector.metadata
    assert (detector.name, detector.threshold) == ("pump-anomaly", 4.25)
    assert detector.channels == TYPE.channel_names
    assert (about.window_s, about.slide_s, about.commissioning_readings) == (30, 10, 400)
    assert about.features[0] == "flow.mean"
    model = onnx.load(file)
    assert (model.ir_version, model.opset_import[0].version) == (9, 17)


def test_version_follows_the_content():
    versions = [Detector(content(threshold=limit)).version for limit in (4, 4, 5)]
    assert versions[0] == versions[1] != versions[2]
    assert len(versions[0]) == 12


def test_other_files_are_refused_by_name(tmp_path):
    file = tmp_path / "model.onnx"
    for bad in (b"", b"not a model", foreign_model()):
        file.write_bytes(bad)
        with pytest.raises(ModelError, match=r"model\.onnx"):
            Detector.load(file)
    with pytest.raises(ModelError, match=r"absent\.onnx"):
        Detector.load(tmp_path / "absent.onnx")


def foreign_model():
    model = onnx.load_from_string(content())
    del model.metadata_props[:]
    return model.SerializeToString()


def test_a_model_that_wants_unknown_features_is_refused_when_it_is_loaded():
    model = onnx.load_from_string(content())
    [about] = model.metadata_props
    about.value = about.value.replace('"heat.std"', '"heat.entropy"')
    with pytest.raises(ModelError, match=r"no feature 'heat\.entropy'"):
        Detector(model.SerializeToString())


def test_metadata_survives_a_round_trip_and_a_newer_writer():
    about = Detector(content()).metadata
    assert Metadata.from_json(about.to_json()) == about
    newer = about.to_json().replace("{", '{"invented_later": 1, ', 1)
    assert Metadata.from_json(newer) == about
    with pytest.raises(ModelError, match="threshold"):
        Metadata.from_json(about.to_json().replace('"threshold"', '"limit"'))
    assert dataclasses.is_dataclass(about)
