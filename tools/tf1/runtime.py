"""TensorFlow's graph mode, imported once and as fast as it goes: `from tools.tf1.runtime import tf`."""

from __future__ import annotations

import gc
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only: the log belongs to the stage
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # the reference is TensorFlow's own kernels, on any CPU
# TensorFlow 1.15 starts its TFLite converter by name, a program of this environment.
os.environ["PATH"] = os.pathsep.join([f"{sys.prefix}/bin", os.environ.get("PATH", os.defpath)])

# The import makes some million objects that live for ever. Without the collector's passes over them it
# takes three quarters of the time, and frozen they are not looked at again.
gc.disable()
import tensorflow.compat.v1 as tf  # noqa: E402

gc.freeze()
gc.enable()

tf.logging.set_verbosity(tf.logging.ERROR)
tf.enable_v2_behavior()  # as TensorFlow 2 does: sizes are integers, what is in no graph runs at once

__all__ = ["tf"]
