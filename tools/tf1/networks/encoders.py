"""Encoder-only Transformers: BERT (Devlin et al. 2018, arXiv:1810.04805) and MobileBERT (Sun et al. 2020,
arXiv:2004.02984).

Variables have the names of the published checkpoints. The published pooler is left out: the output is the
vector of every token [1, length, width], from which any task's head starts. Inside, a sequence is
[length, width], because the batch is one, and matrices of two axes are what every converter knows.
"""

from __future__ import annotations

import math
from typing import Any, Callable

from tools.stage import InvalidRequest
from tools.tf1.layers import add, normal, variable
from tools.tf1.runtime import tf

VOCABULARY, POSITIONS, TOKEN_TYPES = 30522, 512, 2  # of BERT's uncased English checkpoints
STDDEV = 0.02  # of the initial weights (Devlin et al., appendix A.2 and their released configuration)
EPSILON = 1e-12  # of layer normalisation: what the published weights were trained with
MASKED = -10000.0  # added to the score of a token that is padding

# name -> (layers, width, heads): table 1 of Turc et al. 2019 (arXiv:1908.08962)
BERT = {
    "bert_tiny": (2, 128, 2),
    "bert_mini": (4, 256, 4),
    "bert_small": (4, 512, 8),
    "bert_medium": (8, 512, 8),
    "bert_base": (12, 768, 12),
}
# MobileBERT (table 1 of its paper): 24 layers of width 512 that work in bottlenecks of 128, with four
# feed-forward networks each, embeddings of 128, four heads.
MOBILEBERT_LAYERS, WIDTH, BOTTLENECK, FEED_FORWARDS, HEADS = 24, 512, 128, 4, 4
NAMES = (*BERT, "mobilebert")

INPUTS = {
    "input_ids": {"kind": "tokens", "vocabulary": VOCABULARY},
    "input_mask": {"kind": "mask"},
}

Normalise = Callable[[Any], Any]


def encoder(network: str, ids: Any, mask: Any) -> Any:
    """Return the vectors [1, length, width] of the tokens `ids` [1, length]; `mask` is 1 where one is real.

    Raises:
        InvalidRequest: the sequence is longer than the network has positions.
    """
    length = ids.shape.as_list()[1]
    if not 1 <= length <= POSITIONS:
        message = f"{network} has {POSITIONS} positions, and sequence_length is {length}"
        raise InvalidRequest(message, hint=f"Use 1 to {POSITIONS}.")
    with tf.variable_scope("bert"):
        bias = (1.0 - tf.cast(mask, tf.float32)) * MASKED  # [1, length], the same for every query
        x = _mobilebert(ids, bias) if network == "mobilebert" else _bert(ids, bias, *BERT[network])
        return tf.reshape(x, [1, *x.shape.as_list()])


def _bert(ids: Any, bias: Any, layers: int, width: int, heads: int) -> Any:
    with tf.variable_scope("embeddings"):
        x = _layer_norm(_positioned(_words(ids, width), width))
    with tf.variable_scope("encoder"):
        for index in range(layers):
            with tf.variable_scope(f"layer_{index}"):
                attended = _attention(x, x, x, bias, width, heads)
                x = _residual(attended, x, "attention/output", _layer_norm)
                x = _feed_forward(x, 4 * width, _gelu, _layer_norm)
    return x


def _mobilebert(ids: Any, bias: Any) -> Any:
    with tf.variable_scope("embeddings"):
        words = _words(ids, BOTTLENECK)
        before = tf.pad(words[:-1], [[1, 0], [0, 0]])
        after = tf.pad(words[1:], [[0, 1], [0, 0]])
        x = _dense(tf.concat([after, words, before], 1), WIDTH, "embedding_transformation")
        x = _no_norm(_positioned(x, WIDTH))
    with tf.variable_scope("encoder"):
        for index in range(MOBILEBERT_LAYERS):
            with tf.variable_scope(f"layer_{index}"):
                x = _bottleneck_layer(x, bias)
    return x


def _bottleneck_layer(x: Any, bias: Any) -> Any:
    """Narrow the sequence, attend and transform in there, and add the widened result to it."""
    with tf.variable_scope("bottleneck"):
        with tf.variable_scope("input"):
            narrow = _no_norm(_dense(x, BOTTLENECK, "dense"))
        with tf.variable_scope("attention"):
            shared = _no_norm(_dense(x, BOTTLENECK, "dense"))
    attended = _attention(shared, shared, x, bias, BOTTLENECK, HEADS)
    y = _residual(attended, narrow, "attention/output", _no_norm)
    for index in range(FEED_FORWARDS - 1):
        with tf.variable_scope(f"ffn_layer_{index}"):
            y = _feed_forward(y, 4 * BOTTLENECK, tf.nn.relu, _no_norm)
    y = _feed_forward(y, 4 * BOTTLENECK, tf.nn.relu, _no_norm)
    return _residual(y, x, "output/bottleneck", _no_norm)


def _attention(query: Any, key: Any, value: Any, bias: Any, width: int, heads: int) -> Any:
    """Attend from every token to all tokens (Vaswani et al. 2017, arXiv:1706.03762); [length, width]."""
    with tf.variable_scope("attention/self"):

        def per_head(x: Any, scope: str) -> Any:
            split = tf.reshape(_dense(x, width, scope), [-1, heads, width // heads])
            return tf.transpose(split, [1, 0, 2])

        scores = tf.raw_ops.BatchMatMul(x=per_head(query, "query"), y=per_head(key, "key"), adj_y=True)
        shares = tf.nn.softmax(add(scores / math.sqrt(width // heads), bias, scope="masked"))
        mixed = tf.raw_ops.BatchMatMul(x=shares, y=per_head(value, "value"))
        return tf.reshape(tf.transpose(mixed, [1, 0, 2]), [-1, width])


def _feed_forward(x: Any, width: int, activation: Callable[..., Any], normalise: Normalise) -> Any:
    with tf.variable_scope("intermediate"):
        wide = activation(_dense(x, width, "dense"))
    return _residual(wide, x, "output", normalise)


def _residual(y: Any, x: Any, scope: str, normalise: Normalise) -> Any:
    """Project `y` to the width of `x`, add `x`, normalise."""
    with tf.variable_scope(scope):
        projected = _dense(y, x.shape.as_list()[-1], "dense")
        return normalise(add(projected, x, scope="add"))


def _words(ids: Any, width: int) -> Any:
    table = variable("word_embeddings", [VOCABULARY, width], normal(STDDEV))
    return tf.gather(table, tf.reshape(ids, [-1]))


def _positioned(x: Any, width: int) -> Any:
    """Add what stands for the first sentence, and for each position."""
    types = variable("token_type_embeddings", [TOKEN_TYPES, width], normal(STDDEV))
    positions = variable("position_embeddings", [POSITIONS, width], normal(STDDEV))
    typed = add(x, types[:1], scope="typed")
    return add(typed, positions[: x.shape.as_list()[0]], scope="positioned")


def _dense(x: Any, width: int, scope: str) -> Any:
    with tf.variable_scope(scope):
        kernel = variable("kernel", [x.shape.as_list()[-1], width], normal(STDDEV))
        bias = variable("bias", [width], tf.zeros_initializer())
        return tf.nn.bias_add(tf.matmul(x, kernel), bias)


def _layer_norm(x: Any) -> Any:
    """Normalise every token's vector (Ba et al. 2016, arXiv:1607.06450)."""
    mean = tf.reduce_mean(x, axis=-1, keepdims=True)
    centred = x - mean
    variance = tf.reduce_mean(centred * centred, axis=-1, keepdims=True)
    return _scale_and_shift(centred * tf.rsqrt(variance + EPSILON), "LayerNorm")


def _no_norm(x: Any) -> Any:
    """Only scale and shift, which is faster on a phone (MobileBERT, section 3.3)."""
    return _scale_and_shift(x, "FakeLayerNorm")


def _scale_and_shift(x: Any, scope: str) -> Any:
    width = x.shape.as_list()[-1:]
    with tf.variable_scope(scope):
        beta = variable("beta", width, tf.zeros_initializer())
        gamma = variable("gamma", width, tf.ones_initializer())
        return add(x * gamma, beta, scope="add")


def _gelu(x: Any) -> Any:
    """Gaussian error linear unit by its tanh approximation (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""
    return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
