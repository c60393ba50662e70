"""Generated weights are the same everywhere, and leave no variable without effect."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tests.tf1.conftest import FREEZE, GENERATE, Prepared, Run, pick
from tools.tf1.weights import generate

pytestmark = pytest.mark.tool


@pytest.mark.parametrize(
    ("model", "variable", "digest"),
    [
        ("squeezenet", "SqueezeNet/fire2/squeeze/weights", "07f71fc76cf33b6a"),
        ("squeezenet", "SqueezeNet/conv1/biases", "6bf25c97d982f0a8"),
        ("mobilenet_v1_0.5", "MobilenetV1/Conv2d_1_depthwise/depthwise_weights", "1ab11666ee9524db"),
        ("mobilenet_v1_0.5", "MobilenetV1/Conv2d_0/BatchNorm/moving_variance", "0515cfa479f179e7"),
        ("inception_v1", "InceptionV1/Mixed_5c/Branch_0/Conv2d_0a_1x1/BatchNorm/beta", "4ac5721a31e10e5e"),
        ("nasnet_mobile", "cell_0/comb_iter_0/left/separable_5x5_1/pointwise_weights", "7b33009dfcc65b2d"),
        ("nasnet_mobile", "final_layer/FC/weights", "a85ad56abcf46d02"),
    ],
)
def test_the_bytes_are_known(prepared: Prepared, model: str, variable: str, digest: str) -> None:
    """Change these digests only on purpose: published results of generated weights rest on them."""
    with np.load(prepared(model)["weights"]) as weights:
        assert hashlib.sha256(weights[variable].astype("<f4").tobytes()).hexdigest()[:16] == digest


def test_another_numpy_makes_the_same_bytes(prepared: Prepared) -> None:
    """This process has its own numpy, another major version than the tool's when this was written."""
    with np.load(prepared("mobilenet_v1_0.5")["weights"]) as weights:
        for name in weights.files:
            assert np.array_equal(weights[name], generate(0, name, weights[name].shape)), name


def test_another_seed_gives_other_weights(tf1: Run, prepared: Prepared) -> None:
    made = prepared("squeezenet")
    other = tf1("generate-weights", "squeezenet", pick(made, GENERATE), seed=1)
    frozen = tf1("freeze", "squeezenet", pick({**made, **other}, FREEZE), save_weights=True)
    with np.load(made["weights"]) as old, np.load(frozen["weights"]) as new:
        assert not any(np.array_equal(old[name], new[name]) for name in old.files)


def test_no_variable_is_neutral_and_kernels_keep_the_scale(prepared: Prepared) -> None:
    with np.load(prepared("mobilenet_v1_0.5")["weights"]) as weights:
        for name in weights.files:
            values = weights[name]
            assert np.ptp(values) > 0, name
            if name.endswith("moving_variance"):
                assert values.min() > 0.5
            if name.endswith("pointwise/weights"):
                assert np.abs(values.sum(axis=2)).max() < 1e-5
                fan_in = values.shape[2]
                assert values.var() * fan_in == pytest.approx(2 / (1 - 1 / np.pi), rel=0.1)
