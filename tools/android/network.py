"""A TensorFlow Lite network as the program on the phone is told of it: files of bytes in and out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tools import arrays
from tools.stage import InvalidRequest, StageError
from tools.tflite_model import dequantised, not_loaded, operations, quantised

if TYPE_CHECKING:
    import numpy as np

    from tools.arrays import Inputs


class Network:
    """A network's inputs and its one output.

    Attributes: `operations`, as tflite_model counts them; `output_tensor`, as its interpreter describes it.

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
        self.operations = operations(interpreter)
        self._inputs = interpreter.get_input_details()
        outputs = interpreter.get_output_details()
        if len(outputs) != 1:
            message = f"{path.name} has {len(outputs)} outputs, and one is compared"
            raise InvalidRequest(message, hint="Convert it with the output that counts.")
        self.output_tensor = outputs[0]
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

    def output(self, data: bytes) -> np.ndarray:
        """Return one inference's output [1, ...], which starts with the batch axis.

        Raises:
            StageError: it is not as long as an output is.
        """
        import numpy as np

        if len(data) != self.output_bytes:
            message = f"an output has {len(data)} bytes, not {self.output_bytes}"
            raise StageError(message, hint="Is the phone's storage full?")
        held = np.frombuffer(data, self.output_tensor["dtype"]).reshape(self.output_tensor["shape"])
        return dequantised(held, self.output_tensor)

    @property
    def output_values(self) -> int:
        """Values of one output."""
        return int(self.output_tensor["shape"].prod())

    @property
    def output_bytes(self) -> int:
        """Bytes of one output."""
        import numpy as np

        return self.output_values * np.dtype(self.output_tensor["dtype"]).itemsize
