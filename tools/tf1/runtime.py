"""TensorFlow's graph mode, imported once and as fast as it goes: `from tools.tf1.runtime import tf`."""

from __future__ import annotations

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only: the log belongs to the stage
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # the reference is TensorFlow's own kernels, on any CPU

# The import makes some million objects that live for ever. Without the collector's passes over them it
# takes three quarters of the time, and frozen they are not looked at again.
gc.disable()
import tensorflow.compat.v1 as tf  # noqa: E402

gc.freeze()
gc.enable()

tf.logging.set_verbosity(tf.logging.ERROR)
tf.enable_v2_behavior()  # the default of TensorFlow 2: shapes are integers, and what is in no graph is done at once

__all__ = ["tf"]
