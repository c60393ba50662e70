"""NASNet-A (Zoph et al. 2017, arXiv:1707.07012) and PNASNet-5 (Liu et al. 2017, arXiv:1712.00559).

Both searches found the inside of a cell, so a cell is data here. Cells read the outputs of the two cells
before them; from cell to cell the map stays as it is or is halved, and then the width doubles.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Tuple

from tools.tf1.layers import (
    add,
    avg_pool,
    batch_norm,
    conv,
    dense,
    global_avg_pool,
    max_pool,
    separable,
    squeeze,
)
from tools.tf1.runtime import tf

CURRENT, PREVIOUS = 0, 1  # states of a cell: the last cell's output, the one before; 2 to 6 are its own sums

Branch = Tuple[str, int, int]  # operation, size of its window, state that it reads


class Cell(NamedTuple):
    """Each sum of two branches is a new state; all states from `first_output` on are the cell's output."""

    sums: list[tuple[Branch, Branch]]
    first_output: int


# Figure 4 of the NASNet paper. The normal cell also passes its older input on.
NASNET_NORMAL = Cell(
    [
        (("separable", 5, CURRENT), ("separable", 3, PREVIOUS)),
        (("separable", 5, PREVIOUS), ("separable", 3, PREVIOUS)),
        (("average", 3, CURRENT), ("identity", 1, PREVIOUS)),
        (("average", 3, PREVIOUS), ("average", 3, PREVIOUS)),
        (("separable", 3, CURRENT), ("identity", 1, CURRENT)),
    ],
    first_output=PREVIOUS,
)
NASNET_REDUCTION = Cell(
    [
        (("separable", 5, CURRENT), ("separable", 7, PREVIOUS)),
        (("maximum", 3, CURRENT), ("separable", 7, PREVIOUS)),
        (("average", 3, CURRENT), ("separable", 5, PREVIOUS)),
        (("identity", 1, 3), ("average", 3, 2)),
        (("separable", 3, 2), ("maximum", 3, CURRENT)),
    ],
    first_output=3,
)

# Figure 1 of the PNASNet paper: one kind of cell, which also halves maps.
PNASNET = Cell(
    [
        (("separable", 5, PREVIOUS), ("maximum", 3, PREVIOUS)),
        (("separable", 7, CURRENT), ("maximum", 3, CURRENT)),
        (("separable", 5, CURRENT), ("separable", 3, CURRENT)),
        (("separable", 3, 4), ("maximum", 3, CURRENT)),
        (("separable", 3, PREVIOUS), ("identity", 1, CURRENT)),
    ],
    first_output=2,
)


def nasnet_mobile(x: Any, classes: int) -> Any:
    """Build NASNet-A (4 @ 1056), for images of 224."""
    return _nasnet(x, classes, repeats=4, width=44, stem_width=32, behind_reduction=-2)


def nasnet_large(x: Any, classes: int) -> Any:
    """Build NASNet-A (6 @ 4032), for images of 331."""
    return _nasnet(x, classes, repeats=6, width=168, stem_width=96, behind_reduction=-3)


def pnasnet_mobile(x: Any, classes: int) -> Any:
    """Build PNASNet-5 (3 @ 54), for images of 224."""
    return _pnasnet(x, classes, repeats=3, width=54, stem_width=32)


def pnasnet_large(x: Any, classes: int) -> Any:
    """Build PNASNet-5 (4 @ 216), for images of 331."""
    return _pnasnet(x, classes, repeats=4, width=216, stem_width=96)


def _nasnet(x: Any, classes: int, *, repeats: int, width: int, stem_width: int, behind_reduction: int) -> Any:
    """Stack three times `repeats` normal cells, with reduction cells before the second and third time.

    `behind_reduction` says where a normal cell that follows a reduction cell has its older input from: -2,
    the last output before the reduction, or -3, the one before that.
    """
    outputs = _stem(x, NASNET_REDUCTION, width, stem_width)
    for stage in range(3):
        scaled = width << stage
        if stage:
            inputs = outputs[-1], outputs[-2]
            scope = f"reduction_cell_{stage - 1}"
            outputs.append(_cell(NASNET_REDUCTION, *inputs, width=scaled, stride=2, scope=scope))
        for index in range(repeats):
            inputs = outputs[-1], outputs[behind_reduction if stage and index == 0 else -2]
            scope = f"cell_{stage * repeats + index}"
            outputs.append(_cell(NASNET_NORMAL, *inputs, width=scaled, stride=1, scope=scope))
    return _logits(outputs[-1], classes)


def _pnasnet(x: Any, classes: int, *, repeats: int, width: int, stem_width: int) -> Any:
    """Stack three times `repeats` cells, of which the second and third time the first halves the map."""
    outputs = _stem(x, PNASNET, width, stem_width)
    for index in range(3 * repeats):
        stage, position = divmod(index, repeats)
        stride = 2 if stage and position == 0 else 1
        inputs = outputs[-1], outputs[-2]
        outputs.append(_cell(PNASNET, *inputs, width=width << stage, stride=stride, scope=f"cell_{index}"))
    return _logits(outputs[-1], classes)


def _stem(x: Any, cell: Cell, width: int, stem_width: int) -> list[Any]:
    """Halve the image three times: by a convolution and two cells of a quarter and half the width."""
    x = _conv(x, stem_width, 3, stride=2, padding="VALID", scope="conv0", norm_scope="conv0_bn")
    first = _cell(cell, x, x, width=width // 4, stride=2, scope="cell_stem_0")
    second = _cell(cell, first, x, width=width // 2, stride=2, scope="cell_stem_1")
    return [x, first, second]


def _cell(cell: Cell, current: Any, previous: Any, *, width: int, stride: int, scope: str) -> Any:
    """Build a cell, which reads the last output and the one before; the first of all reads one twice."""
    with tf.variable_scope(scope):
        states = [
            _conv(tf.nn.relu(current), width, 1, scope="1x1", norm_scope="beginning_bn"),
            previous if previous is current else _fit(previous, current, width),
        ]
        for index, branches in enumerate(cell.sums):
            with tf.variable_scope(f"comb_iter_{index}"):
                ends = []
                for side, (operation, window, state) in zip(("left", "right"), branches):
                    with tf.variable_scope(side):
                        strides = stride if state in (CURRENT, PREVIOUS) else 1
                        ends.append(OPERATIONS[operation](states[state], width, window, strides))
                states.append(add(*ends, scope="combine"))
        return tf.concat(states[cell.first_output :], 3, name="cell_output")


def _fit(previous: Any, current: Any, width: int) -> Any:
    """Bring the older input to the map and width of the newer one."""
    if previous.shape[2] != current.shape[2]:
        return _factorized_reduction(tf.nn.relu(previous), width)
    if previous.shape[3] != width:
        return _conv(tf.nn.relu(previous), width, 1, scope="prev_1x1", norm_scope="prev_bn")
    return previous


def _factorized_reduction(x: Any, width: int) -> Any:
    """Halve the map by two strided paths, the second moved by one pixel, so that both see other pixels."""
    moved = tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]])[:, 1:, 1:, :]
    paths = []
    for index, (pixels, depth) in enumerate([(x, width // 2), (moved, width - width // 2)], start=1):
        pooled = avg_pool(pixels, 1, 2, padding="VALID", scope=f"path{index}_pool")
        paths.append(_conv(pooled, depth, 1, scope=f"path{index}_conv"))
    return batch_norm(tf.concat(paths, 3), scope="final_path_bn")


def _separable_twice(x: Any, width: int, window: int, stride: int) -> Any:
    """Apply the separable convolution twice, as the papers do; only the first time with the stride."""
    for index, strides in ((1, stride), (2, 1)):
        name = f"{window}x{window}_{index}"
        x = separable(tf.nn.relu(x), width, window, strides, scope=f"separable_{name}", initializer=_he())
        x = batch_norm(x, scope=f"bn_sep_{name}")
    return x


def _average(x: Any, width: int, window: int, stride: int) -> Any:
    return _narrow(avg_pool(x, window, stride, padding="SAME", scope="AvgPool"), width)


def _maximum(x: Any, width: int, window: int, stride: int) -> Any:
    return _narrow(max_pool(x, window, stride, padding="SAME", scope="MaxPool"), width)


def _narrow(x: Any, width: int) -> Any:
    return x if x.shape[3] == width else _conv(x, width, 1, scope="1x1", norm_scope="bn_1")


def _identity(x: Any, width: int, _window: int, stride: int) -> Any:
    if stride == 1 and x.shape[3] == width:
        return x
    return _conv(tf.nn.relu(x), width, 1, stride=stride, scope="1x1", norm_scope="bn_1")


OPERATIONS = {
    "separable": _separable_twice,
    "average": _average,
    "maximum": _maximum,
    "identity": _identity,
}


def _conv(x: Any, depth: int, kernel: int, *, norm_scope: str = "", **common: Any) -> Any:
    """Convolve without a bias, and normalise under a scope beside the convolution's."""
    x = conv(x, depth, kernel, activation=None, biased=False, initializer=_he(), **common)
    return batch_norm(x, scope=norm_scope) if norm_scope else x


def _he() -> Any:
    """Return the initialiser of TF-Slim's definitions, by fan-out (He et al. 2015, arXiv:1502.01852)."""
    return tf.variance_scaling_initializer(2.0, mode="fan_out", distribution="truncated_normal")


def _logits(x: Any, classes: int) -> Any:
    """Pool, classify; and TF-Slim's own end point `predictions`, for those who look for it by name."""
    with tf.variable_scope("final_layer"):
        x = squeeze(global_avg_pool(tf.nn.relu(x), scope="AvgPool"), scope="SpatialSqueeze")
        logits = dense(x, classes, scope="FC", initializer=_he())
        tf.nn.softmax(logits, name="predictions")
    return logits
