import re
from importlib.metadata import version
from pathlib import Path

import pytest

JOBS = (Path(__file__).parents[2] / "flink_jobs" / "requirements.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("library", ["numpy", "onnxruntime"])
def test_models_are_made_with_the_libraries_that_the_jobs_score_with(library):
    (scoring,) = re.findall(rf"^{library}==(\S+)", JOBS, re.MULTILINE)
    assert version(library) == scoring
