"""What Polygraphy calls: the builder's settings, the inputs, and the comparison of all tensors.

polygraphy.py names this file to it as the script for all three. It runs in Polygraphy's own Python, which
may be a 3.6 (JetPack 4), with NumPy and nothing of this project: no import from it, no newer syntax. The
environment variable VARIABLE is the path of a JSON file, see `polygraphy._write_order`. Polygraphy reads
this file anew for each call, so nothing is kept here: each input's comparison becomes a line of the file
`found`.
"""

import json
import os
from pathlib import Path
from typing import Any, Dict, List

VARIABLE = "MOBILE_ACCELERATOR_POLYGRAPHY_ORDER"


def load_config(builder: Any, network: Any = None) -> Any:
    """Return the builder's settings, those of bindings.py: what Polygraphy's options for them are differs."""
    import tensorrt

    order, config = _order(), builder.create_builder_config()
    size = order["workspace_mib"] << 20
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, size)
    else:
        config.max_workspace_size = size
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    if order["precision"] == "fp16":
        config.set_flag(tensorrt.BuilderFlag.FP16)
    return config


def load_data() -> List[Dict[str, Any]]:
    """Return the inputs, each by the network's names."""
    import numpy as np

    with np.load(_order()["inputs"]) as file:
        arrays = {name.partition("/")[2]: file[name] for name in file.files}
    count = len(next(iter(arrays.values())))
    return [{name: array[at : at + 1] for name, array in arrays.items()} for at in range(count)]


def compare_outputs(by_tensorrt: Any, by_onnxruntime: Any) -> Dict[str, bool]:
    """Write how far each tensor of one input is off; what that means is judged elsewhere, so all passes."""
    import onnxruntime
    import polygraphy
    import tensorrt

    common = [name for name in by_onnxruntime if name in by_tensorrt]
    said = {
        "versions": {each.__name__: each.__version__ for each in (polygraphy, tensorrt, onnxruntime)},
        "simulated": bool(getattr(tensorrt, "SIMULATED", False)),
        "tensors": {name: distance(by_tensorrt[name], by_onnxruntime[name]) for name in common},
        "only_in_tensorrt": [name for name in by_tensorrt if name not in by_onnxruntime],
        "only_in_onnxruntime": [name for name in by_onnxruntime if name not in by_tensorrt],
    }
    with Path(_order()["found"]).open("a") as file:
        file.write(json.dumps(said) + "\n")
    return dict.fromkeys(common, True)


def distance(found: Any, expected: Any) -> Dict[str, Any]:
    """Return how far a tensor is from the expected one.

    Returns:
        max_abs: the largest absolute difference; None if the sizes differ, or a value is not finite that is
            not the same in both.
        range: largest minus smallest expected value; `largest`: the largest absolute one.
        cosine: similarity of the two as they are; None where max_abs is, or one is all zeros.
    """
    import numpy as np

    found, expected = (np.asarray(each).astype(np.float64).reshape(-1) for each in (found, expected))
    finite = expected[np.isfinite(expected)]
    said = {"max_abs": None, "range": 0.0, "largest": 0.0, "cosine": None}
    if finite.size:
        said.update(range=float(np.ptp(finite)), largest=float(np.abs(finite).max()))
    if found.size != expected.size:
        return said
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    found, expected = np.where(same & ~np.isfinite(expected), 0.0, [found, expected])
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return said
    said["max_abs"] = float(np.abs(found - expected).max()) if found.size else 0.0
    norms = float(np.linalg.norm(found) * np.linalg.norm(expected))
    if norms:
        said["cosine"] = float(found @ expected) / norms
    return said


def _order() -> Dict[str, Any]:
    order: Dict[str, Any] = json.loads(Path(os.environ[VARIABLE]).read_text())
    return order
