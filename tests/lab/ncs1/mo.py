"""SIMULATED: stands for the Model Optimizer of OpenVINO 2020.3."""

import argparse
import json
from pathlib import Path

import stick

parser = argparse.ArgumentParser()
names = ("input_model", "input", "output", "input_shape", "data_type", "model_name", "output_dir")
for name in names:
    parser.add_argument("--" + name, required=True)
options = parser.parse_args()
assert len(json.loads(options.input_shape)) == 4
assert Path(options.input_model).is_file()
assert options.data_type == "FP16"
made = Path(options.output_dir, options.model_name)
stick.write(str(made) + ".xml", options.input_model, options.input, options.output)
Path(str(made) + ".bin").touch()
