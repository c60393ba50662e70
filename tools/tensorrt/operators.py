"""Which ONNX operators TensorRT's parser knows, by version.

Source: onnx/onnx-tensorrt (Apache-2.0), branches 8.0-GA (commit 3f211d6), 8.2-GA (f42daee), 8.4-GA
(63d626b), 8.5-GA (fdeeaca), 8.6-GA (ee0b139), 10.0-GA (73f629e) and 10.1-GA (96e7811): what the parser has an
importer for (DEFINE_BUILTIN_OP_IMPORTER), less NVIDIA's own TRT_ operators. That is what docs/operators.md
there says, but for Reciprocal, which it denies 8.0 and 8.2, and RandomNormal, which it promises 8.4. No later
version took one away. Newer ones than 10.1 were not there to be read and are taken for 10.1. Opsets:
docs/operators.md.
"""

from __future__ import annotations

from tools.tensorrt.versions import Version

OPERATORS = {
    (8, 0): """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu
    Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear
    Div Dropout Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements Gemm
    GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual HardSigmoid Identity If ImageScaler
    InstanceNormalization LRN LSTM LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool
    MatMul Max MaxPool Mean Min Mul Neg NonMaxSuppression Not Or PRelu Pad ParametricSoftplus Pow
    QuantizeLinear RNN RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
    ReverseSequence ScaledTanh Scan Selu Shape Sigmoid Sin Sinh Size Slice Softmax Softplus Softsign
    SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Unsqueeze Upsample
    Where
    """,
    (8, 2): "Einsum GatherND IsNaN Round Scatter ScatterElements ScatterND Sign",
    (8, 4): "HardSwish Shrink Xor",
    (8, 5): """
    GridSample MeanVarianceNormalization Mod NonZero OneHot RandomNormal RandomNormalLike RoiAlign Trilu
    """,
    (8, 6): "GroupNormalization IsInf LayerNormalization",
    (10, 0): "CastLike Gelu Hardmax Mish",
    (10, 1): "DeformConv",
}
MAX_OPSET = {(8, 0): 13, (8, 2): 13, (8, 4): 17, (8, 5): 17, (8, 6): 17, (10, 0): 20, (10, 1): 20}

# What computes the same with operators that every version has.
REWRITES = {
    "DynamicQuantizeLinear": "Take the network in float, and int8 by calibration.",
    "Gelu": "Write it as 0.5 x (1 + Erf(x / sqrt 2)): export with an opset below 20.",
    "GroupNormalization": "Write it as Reshape, InstanceNormalization, Mul and Add.",
    "HardSwish": "Write it as x * HardSigmoid(x, alpha=1/6, beta=0.5): export with an opset below 14.",
    "Hardmax": "Write it as Equal(x, ReduceMax(x)).",
    "LayerNormalization": "Write it as ReduceMean, Sub, Pow, Sqrt and Div: export with an opset below 17.",
    "Mish": "Write it as x * Tanh(Softplus(x)): export with an opset below 18.",
    "Mod": "Write it as x - Floor(x / y) * y.",
    "NonZero": "Its output has no fixed shape: compute it outside of the network, or fold it.",
    "OneHot": "Write it as Gather of a constant identity matrix.",
    "QLinearConv": "Quantise in the QDQ form, or take the network in float, and int8 by calibration.",
    "QLinearMatMul": "Quantise in the QDQ form, or take the network in float, and int8 by calibration.",
    "ConvInteger": "Take the network in float, and int8 by calibration.",
    "MatMulInteger": "Take the network in float, and int8 by calibration.",
    "Round": "Write it as Floor(x + 0.5), which differs for halves.",
    "Trilu": "Write it as Mul by a constant mask.",
    "Xor": "Write it as Not(Equal(x, y)) on integers.",
}


def table(version: Version) -> tuple[int, int]:
    """Return the version of the table that holds for a version of TensorRT: the newest that is not newer."""
    return max((each for each in OPERATORS if each <= version[:2]), default=min(OPERATORS))


def supported(version: tuple[int, int]) -> frozenset[str]:
    """Return the operators that the parser of a version of the table knows."""
    return frozenset(name for since, names in OPERATORS.items() if since <= version for name in names.split())
