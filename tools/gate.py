"""The correctness gate: does a backend still compute the function of the frozen TensorFlow graph?

Outputs are arrays [n inputs, ...]; all that follows the first axis is flattened to classes. What is compared,
and why it is not the plain difference:

- Softmax outputs are small numbers, 0.001 each with 1000 classes, and differ little from one another. So an
  input's error is taken relative to the spread (largest minus smallest) of its reference output, and the
  cosine is that of the outputs less the reference's mean. The plain cosine of two flat outputs is near 1
  even if they have nothing in common.
- With generated weights all inputs get nearly the same answer, so a backend that ignores its input, or
  answers the one before, has a small error. So the outputs less their mean over the inputs (the response)
  must correlate with the reference's, wherever the reference varies more than the precision's noise.
- A class that the reference rates equal to its first, but for that noise, is as right as the first.
- An output of several axes (a vector for each token) has no classes: what is said of classes is None then.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tools.names import similar
from tools.stage import InvalidRequest, WrongOutput

if TYPE_CHECKING:
    import numpy as np

METRICS = tuple(
    f"correctness_{key}" for key in ("cosine", "max_abs", "top1_match", "top5_overlap", "n_inputs")
)
RESPONSE = 0.5  # correlation; noise alone gives 0, a response twice the noise at least 0.89


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """Limits of one precision. `error` and `noise` are fractions of the reference output's spread.

    Attributes:
        cosine: smallest cosine similarity of an input's output and its reference.
        error: largest absolute error.
        noise: error that the arithmetic alone explains.
        top1_match: smallest fraction of the inputs that have the same first class.
    """

    cosine: float
    error: float
    noise: float
    top1_match: float


# fp32: conversions fold batch norms and reorder sums; that is some hundred roundings of 2**-24, 1e-5 at most
#   (1e-7 to 1e-6 seen on four runtimes). 1e-3 is far above it and far below any fault.
# fp16: roundings of 2**-11 (5e-4) at 20 to 200 layers add up as their square root, to 2e-3 ... 7e-3
#   (measured: cosine 0.99998 and error 7e-3 at the worst).
# int8: 8 bits disturb a layer by about 1 % (Krishnamoorthi, arXiv:1806.08342), and generated weights, which
#   no training made redundant, pass that on: noise of 1 % on the weights of squeezenet gives a cosine of
#   0.974, 2 % 0.91, 10 % 0.00 (0.88 in mobilenet_v1, which passes on least). A softmax sharpens it: where a
#   class has half of the probability, an error of 1 in its logit is a quarter of the spread. `int8-dynamic`
#   takes each input's own ranges (measured: cosine 0.974, error 0.27, first class 0.75 at the worst), `int8`
#   those that were calibrated before (0.955, 0.48, 0.62). The limits lie between that and 10 % of noise.
# int16: weights of 8 bits, activations of 16, whose own noise is nothing beside that of the weights. That is
#   the case of `int8-dynamic`, whose limits it has.
#   Two layers of a Transformer, normalised, pass on so little (10 %: 0.986) that these limits let it pass.
TOLERANCES = {
    "fp32": Tolerance(cosine=0.99999, error=1e-3, noise=1e-5, top1_match=1.0),
    "fp16": Tolerance(cosine=0.999, error=0.03, noise=3e-3, top1_match=1.0),
    "int8-dynamic": Tolerance(cosine=0.95, error=0.4, noise=0.02, top1_match=0.6),
    "int8": Tolerance(cosine=0.93, error=0.6, noise=0.03, top1_match=0.5),
    "int16": Tolerance(cosine=0.95, error=0.4, noise=0.02, top1_match=0.6),
}


def tolerance(precision: str) -> Tolerance:
    """Return the limits of a precision.

    Raises:
        InvalidRequest: there is none of that name.
    """
    if precision not in TOLERANCES:
        message = f"there is no precision {precision!r}"
        hint = f"{similar(precision, TOLERANCES)}Precisions: {', '.join(TOLERANCES)}."
        raise InvalidRequest(message, hint=hint)
    return TOLERANCES[precision]


def limits(reference_outputs: np.ndarray, precision: str) -> dict[str, float]:
    """Return the limits in the units of the metrics: cosine and top-1 at least, max_abs at most.

    An input of a smaller spread has a smaller limit of its error; that of the largest is returned.
    """
    limit = tolerance(precision)
    spread = float(_spread(_flat(reference_outputs)).max())
    return {"cosine": limit.cosine, "max_abs": limit.error * spread, "top1_match": limit.top1_match}


def check(outputs: np.ndarray, reference_outputs: np.ndarray, precision: str) -> dict[str, Any]:
    """Compare a backend's outputs with the reference; return the metrics `correctness_*`.

    Args:
        outputs: [n, ...], what the backend answered to the n reference inputs.
        reference_outputs: of the same shape, but for axes of length 1.
        precision: a key of `TOLERANCES`.

    Raises:
        WrongOutput: beyond the precision's tolerance; it carries the metrics.
        InvalidRequest: the precision is unknown, or the reference is not finite.
    """
    import numpy as np

    limit = tolerance(precision)
    found, expected = _flat(outputs), _flat(reference_outputs)
    if not np.isfinite(expected).all():
        message = "the reference outputs are not finite, so nothing can be compared with them"
        raise InvalidRequest(message, hint="The network's weights are broken: prepare it again.")
    unknown = {**dict.fromkeys(METRICS), "correctness_n_inputs": len(expected)}
    if found.shape != expected.shape:
        message = f"the output has shape {list(outputs.shape)}, the reference {list(reference_outputs.shape)}"
        raise _wrong(message, unknown)
    if not np.isfinite(found).all():
        message = f"{1 - np.isfinite(found).mean():.1%} of the output values are not finite numbers"
        raise _wrong(message, unknown)

    classes = np.squeeze(reference_outputs[0]).ndim <= 1
    metrics = {
        "correctness_cosine": float(_cosine(found, expected).min()),
        "correctness_max_abs": float(np.abs(found - expected).max()),
        "correctness_top1_match": _top_overlap(found, expected, 1, limit.noise) if classes else None,
        "correctness_top5_overlap": _top_overlap(found, expected, 5, limit.noise) if classes else None,
        "correctness_n_inputs": len(expected),
    }
    problem = _problem(found, expected, metrics, limit)
    if problem:
        message = f"{problem} ({precision})"
        raise _wrong(message, metrics)
    return metrics


def _problem(found: np.ndarray, expected: np.ndarray, metrics: dict[str, Any], limit: Tolerance) -> str:
    """Say what is beyond the tolerance, the most telling first; nothing if all is right."""
    import numpy as np

    follows = _response(found, expected, limit)
    if follows == 0:
        return "it gives the same output for every input, the reference does not"
    cosine = _cosine(found, expected)
    if cosine.min() < limit.cosine:
        worst = f"cosine {cosine.min():.6f} on input {cosine.argmin()}"
        return f"the output differs from the reference: {worst}, at least {limit.cosine} is right"
    error = np.abs(found - expected).max(axis=1) / _spread(expected)
    if error.max() > limit.error:
        worst = f"{error.max():.2%} of the output's spread on input {error.argmax()}"
        return f"the output is off by {worst}, at most {limit.error:.1%} is right"
    if follows < RESPONSE:
        return f"the output does not follow the input: correlation with the reference {follows:.2f}"
    match = metrics["correctness_top1_match"]
    if match is not None and match < limit.top1_match:
        return f"the first class is the reference's on {match:.0%} of the inputs only"
    return ""


def _response(found: np.ndarray, expected: np.ndarray, limit: Tolerance) -> float:
    """Correlation of the outputs less their mean over the inputs; 0 if they do not vary."""
    import numpy as np

    wanted, response = expected - expected.mean(axis=0), found - found.mean(axis=0)
    if np.abs(wanted).max() <= 2 * limit.noise * _spread(expected).max():
        return 1.0  # one input, or the reference's own response drowns in the noise
    if np.abs(response).max() <= 0.01 * np.abs(wanted).max():
        return 0.0
    return float((response * wanted).sum() / (np.linalg.norm(response) * np.linalg.norm(wanted)))


def _flat(outputs: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.asarray(outputs, np.float64).reshape(len(outputs), -1)


def _spread(expected: np.ndarray) -> np.ndarray:
    """Largest minus smallest value of each row; 1 for a row that is constant."""
    import numpy as np

    spread = np.ptp(expected, axis=1)
    return np.where(spread > 0, spread, 1.0)


def _cosine(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Cosine similarity of each row, both less the mean of the reference's row."""
    import numpy as np

    mean = expected.mean(axis=1, keepdims=True)
    found, expected = found - mean, expected - mean
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    products = (found * expected).sum(axis=1)
    same = (found == expected).all(axis=1)
    cosine: np.ndarray = np.where(norms > 0, products / np.where(norms > 0, norms, 1), same)
    return cosine


def _top_overlap(found: np.ndarray, expected: np.ndarray, count: int, noise: float) -> float:
    """Part of the rows' `count` first classes that are the reference's too, or tie with them."""
    import numpy as np

    count = min(count, expected.shape[1])
    first = np.argsort(-found, axis=1, kind="stable")[:, :count]
    last_in = np.sort(expected, axis=1)[:, -count] - 2 * noise * _spread(expected)
    return float((np.take_along_axis(expected, first, axis=1) >= last_in[:, None]).mean())


def _wrong(message: str, metrics: dict[str, Any]) -> WrongOutput:
    hint = "The conversion or the runtime computes another function; its time would mean nothing."
    return WrongOutput(message, hint=hint, metrics=metrics)
