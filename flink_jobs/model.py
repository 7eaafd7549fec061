"""Scoring: an ONNX model with its metadata, called with batches of windows.

A model file is an ONNX graph in double precision with the inputs `features` (B, F) and
`references` (B, 6 C) and the outputs `score` (B,) and `shares` (B, C). What else is needed to use
it stands as JSON in its metadata property `plantline` (see `Metadata`), the names of its F features
among it: whoever scores computes exactly those. docs/model.md has the method;
flink_jobs/tools/train.py makes the files.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from flink_jobs.features import Features

METADATA_PROPERTY = "plantline"

_VERSION_DIGITS = 12


class ModelError(ValueError):
    """Not a model file of ours, or not one for what it is used for."""


@dataclass(frozen=True)
class Metadata:
    """What a model file says of itself; all of it is fixed by training."""

    name: str
    machine_type: str
    kind: str
    channels: tuple[str, ...]
    features: tuple[str, ...]
    reference_layout: int
    threshold: float
    window_s: float
    slide_s: float
    commissioning_readings: int
    data_fingerprint: str
    seed: int

    def to_json(self) -> str:
        """The same text for the same content."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Metadata:
        """Raises ModelError for what is not such a text. Fields not known here are ignored."""
        try:
            found = json.loads(text)
            known = {field.name: found[field.name] for field in fields(cls)}
            lists = {name: tuple(known[name]) for name in ("channels", "features")}
            return cls(**(known | lists))
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(f"metadata of the model cannot be read: {error!r}") from error


@dataclass(frozen=True, eq=False)
class Scores:
    """score float64 (B,), higher is worse, NaN where nothing could be compared; shares float64
    (B, C), how much of each score is due to each channel, summing to 1 (0 for an unscored window).
    """

    score: NDArray[np.float64]
    shares: NDArray[np.float64]


class Detector:
    """A loaded model. The same windows give the same scores, whatever batch they are in."""

    def __init__(self, content: bytes) -> None:
        """Raises ModelError for bytes that are not a model of ours."""
        options = onnxruntime.SessionOptions()
        # Workers share the host's cores; parallelism is Flink's affair.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has no common class for what it raises
            raise ModelError(f"not an ONNX model: {error}") from error
        properties = self._session.get_modelmeta().custom_metadata_map
        if METADATA_PROPERTY not in properties:
            raise ModelError(f"the model has no metadata property {METADATA_PROPERTY!r}")
        self.metadata = about = Metadata.from_json(properties[METADATA_PROPERTY])
        try:
            self.features = Features(about.features, about.channels, about.machine_type)
        except ValueError as error:
            raise ModelError(f"the model cannot be served: {error}") from error
        self.version = version(content)

    @classmethod
    def load(cls, path: Path) -> Detector:
        """Raises ModelError naming the file."""
        try:
            return cls(path.read_bytes())
        except (OSError, ModelError) as error:
            raise ModelError(f"{path}: {error}") from error

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def channels(self) -> tuple[str, ...]:
        return self.metadata.channels

    @property
    def threshold(self) -> float:
        """Scores above it are alerts."""
        return self.metadata.threshold

    def score(self, features: NDArray[np.float64], references: NDArray[np.float64]) -> Scores:
        """Scores of B windows: features (B, F), references (B, 6 C), row by row."""
        score, shares = self._session.run(
            ["score", "shares"],
            {
                "features": np.ascontiguousarray(features, dtype=np.float64),
                "references": np.ascontiguousarray(references, dtype=np.float64),
            },
        )
        return Scores(score, shares)


def version(content: bytes) -> str:
    """The version of a model file: the first digits of its SHA-256."""
    return hashlib.sha256(content).hexdigest()[:_VERSION_DIGITS]
