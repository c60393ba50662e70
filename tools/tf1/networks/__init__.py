"""The networks: functions from an image to logits, by the names of TF-Slim's definitions, and encoders.

A module per family, which names its paper; and `tables`, for those that are data (tools/models.toml). Where a
paper leaves a choice (padding, a pool's window) it is the one that gives the variables and the operation
counts of tests/networks.json.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Callable

from tools.names import nearest
from tools.stage import InvalidRequest
from tools.tf1.networks import encoders, tables
from tools.tf1.networks.inception_resnet_v2 import inception_resnet_v2
from tools.tf1.networks.inception_v1 import inception_v1
from tools.tf1.networks.inception_v2 import inception_v2
from tools.tf1.networks.inception_v3 import inception_v3
from tools.tf1.networks.inception_v4 import inception_v4
from tools.tf1.networks.mobilenet import mobilenet_v1, mobilenet_v2
from tools.tf1.networks.nasnet import nasnet_large, nasnet_mobile, pnasnet_large, pnasnet_mobile
from tools.tf1.networks.resnet import UNITS, resnet_v1, resnet_v2
from tools.tf1.runtime import tf

INPUT = "input"
INPUTS = {INPUT: {"kind": "image"}}
OUTPUT = "output"


@dataclasses.dataclass(frozen=True)
class Network:
    """A graph in which `inputs` (name -> what it is) lead to the node `output`.

    `output_kind` is `probabilities` [1, classes], or `features` [1, ...], which have no classes.
    """

    graph: Any
    inputs: Mapping[str, Mapping[str, Any]]
    output_kind: str


Builder = Callable[..., Any]

NETWORKS: dict[str, Builder] = {
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "inception_v1": inception_v1,
    "inception_v2": inception_v2,
    "inception_v3": inception_v3,
    "inception_v4": inception_v4,
    "inception_resnet_v2": inception_resnet_v2,
    **{f"resnet_v1_{layers}": functools.partial(resnet_v1, layers=layers) for layers in UNITS},
    **{f"resnet_v2_{layers}": functools.partial(resnet_v2, layers=layers) for layers in UNITS},
    "nasnet_mobile": nasnet_mobile,
    "nasnet_large": nasnet_large,
    "pnasnet_mobile": pnasnet_mobile,
    "pnasnet_large": pnasnet_large,
}
SCALABLE = (mobilenet_v1, mobilenet_v2)


def build(network: str, *, sequence_length: int, **image: Any) -> Network:
    """Return a network of the zoo: one that reads an image, or tokens; see below for the parameters.

    Raises:
        InvalidRequest: no such network, or it cannot be built with these parameters.
    """
    if network not in encoders.NAMES:
        return Network(inference_graph(network, **image), INPUTS, "probabilities")
    with tf.Graph().as_default() as graph:
        tokens = [tf.placeholder(tf.int32, [1, sequence_length], name=name) for name in encoders.INPUTS]
        tf.identity(encoders.encoder(network, *tokens), name=OUTPUT)
    return Network(graph, encoders.INPUTS, "features")


def inference_graph(
    network: str, depth_multiplier: float, image_size: int, channels: int, classes: int, table: str = ""
) -> Any:
    """Return the inference graph: `input` [1, H, W, C] in, softmax `output` [1, classes] out.

    The batch is one because that is what is measured, and because device compilers want fixed shapes. Every
    graph ends in `output`, whatever the network calls its own end points: one name for every converter.
    `table` is the JSON that describes a network's layers, where `network` is none of NETWORKS.

    Raises:
        InvalidRequest: no such network, or it cannot be built with these parameters.
    """
    build = functools.partial(tables.build, table=table, where=network) if table else _builder(network)
    if depth_multiplier <= 0 or min(image_size, channels, classes) < 1:
        message = f"{network}: depth_multiplier, image_size, channels and classes have to be positive"
        raise InvalidRequest(message, hint="Correct the model's row in tools/models.toml.")
    if depth_multiplier != 1.0 and build not in SCALABLE:
        message = f"{network} has no depth multiplier, and {depth_multiplier} was asked for"
        raise InvalidRequest(message, hint="Use 1.0.")
    with tf.Graph().as_default() as graph:
        image = tf.placeholder(tf.float32, [1, image_size, image_size, channels], name=INPUT)
        try:
            logits = build(image, classes, depth_multiplier) if build in SCALABLE else build(image, classes)
        except ValueError as error:  # TensorFlow's shape inference: a window larger than the map
            message = f"{network} cannot take images of {image_size} x {image_size}: {error}"
            raise InvalidRequest(message, hint="Use the network's own image size, mostly 224.") from None
        tf.nn.softmax(logits, name=OUTPUT)
    return graph


def _builder(network: str) -> Builder:
    if network in NETWORKS:
        return NETWORKS[network]
    message = f"there is no network {network!r}"
    raise InvalidRequest(message, hint=nearest(network, [*NETWORKS, *encoders.NAMES]))
