"""SIMULATED: stands for the stick of the stand-in SDKs beside it. TensorFlow 1.15 on the CPU takes its place.

A "compiled" network is JSON that names the frozen graph and its ends. `fault`, a file beside this one, says
how the stick misbehaves.
"""

import json
from pathlib import Path

import numpy as np

FAULT = Path(__file__).with_name("fault")


def fault():
    """Return how the stick misbehaves; nothing if it does not."""
    return FAULT.read_text() if FAULT.exists() else ""


def write(path, frozen, input_name, output_name):
    """Write a compiled network."""
    said = {"frozen": str(frozen), "input": input_name, "output": output_name}
    Path(path).write_text(json.dumps(said))


class Network:
    """A network on the stick, which computes with inputs in float16."""

    def __init__(self, data):
        import tensorflow.compat.v1 as tf

        said = json.loads(data)
        graph_def = tf.GraphDef.FromString(Path(said["frozen"]).read_bytes())
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(graph_def, name="")
        self.input = graph.get_tensor_by_name(said["input"] + ":0")
        self.output = graph.get_tensor_by_name(said["output"] + ":0")
        self.name, self.out = said["input"], said["output"]
        self.shape = self.input.shape.as_list()
        self.session = tf.Session(graph=graph)
        self.count = 0

    def infer(self, values):
        """Return the output for an input of the graph's layout."""
        self.count += 1
        if fault() == "unplugged" and self.count > 30:
            raise OSError
        batch = np.asarray(values).astype(np.float16).astype(np.float32).reshape(self.shape)
        if fault() == "deaf":
            batch = np.zeros_like(batch)
        return self.session.run(self.output, {self.input: batch})
