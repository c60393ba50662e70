"""A TensorFlow Lite network as the program on the phone is told of it: files of bytes in and out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tools import arrays
from tools.stage import InvalidRequest
from tools.tflite_model import dequantised, not_loaded, operations, quantised

if TYPE_CHECKING:
    import numpy as np

    from tools.arrays import Inputs


class Network:
    """A network's inputs and its one output. Attributes: `path`, `operations` (as tflite_model counts them).

    Raises:
        InvalidRequest: the file is no network, or one whose inputs or output cannot be told apart in files.
    """

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            interpreter = Interpreter(model_path=str(path), experimental_op_resolver_type=plain)
        except ValueError as error:
            raise not_loaded(path, error) from error
        self.path = path
        self.operations = operations(interpreter)
        self._inputs = interpreter.get_input_details()
        self._outputs = interpreter.get_output_details()
        if len(self._outputs) != 1:
            message = f"{path.name} has {len(self._outputs)} outputs, and one is compared"
            raise InvalidRequest(message, hint="Convert it with the output that counts.")
        if any("," in tensor["name"] for tensor in self._inputs):
            message = f"{path.name}: benchmark_model cannot be told of an input with a comma in its name"
            raise InvalidRequest(message, hint="Convert it with other names.")

    def input_flags(self, files: list[str]) -> list[str]:
        """Return benchmark_model's flags for inputs from files on the phone, one each."""
        names = [tensor["name"] for tensor in self._inputs]
        shapes = [",".join(map(str, tensor["shape"].tolist())) for tensor in self._inputs]
        pairs = [f"{name.replace(':', '::')}:{file}" for name, file in zip(names, files)]
        return [
            f"--input_layer={','.join(names)}",
            f"--input_layer_shape={':'.join(shapes)}",
            f"--input_layer_value_files={','.join(pairs)}",
        ]

    def write_input(self, inputs: Inputs, index: int, source: str, folder: Path) -> dict[str, Path]:
        """Write the `index`-th of the inputs as `<index>.<position>`; return name -> path, in order."""
        shapes = {tensor["name"]: tuple(tensor["shape"].tolist()) for tensor in self._inputs}
        batches = arrays.fit(inputs, shapes, index, source)
        files = {}
        for position, tensor in enumerate(self._inputs):
            path = folder / f"{index}.{position}"
            path.write_bytes(quantised(batches[tensor["name"]], tensor).tobytes())
            files[path.name] = path
        return files

    def outputs(self, data: bytes) -> np.ndarray:
        """Return the outputs [n, ...] of n inferences, each of them starting with the batch axis."""
        import numpy as np

        (tensor,) = self._outputs
        held = np.frombuffer(data, tensor["dtype"]).reshape(-1, *tensor["shape"][1:])
        return dequantised(held, tensor)

    @property
    def output_bytes(self) -> int:
        """Bytes of one output."""
        import numpy as np

        (tensor,) = self._outputs
        return int(np.prod(tensor["shape"])) * np.dtype(tensor["dtype"]).itemsize
