"""What OpenVINO, its plug-in and XLink say, in the project's words. The texts are theirs."""

from __future__ import annotations

import pytest

from tools.ncs.inference_engine import translate
from tools.stage import DeviceNotFound, InvalidRequest, StageError, Unsupported

SOURCE = "[ GENERAL_ERROR ] \n/home/jenkins/agent/workspace/b/repos/openvino/src/vpu/"


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("Can not init Myriad device: NC_ERROR", DeviceNotFound, "no stick, or another process"),
        (f"{SOURCE}myriad_plugin.cpp:165 No devices available.", DeviceNotFound, "no stick"),
        ("Failed to allocate graph: MYRIAD device is not opened.", DeviceNotFound, "no stick"),
        ("Can not init USB device: NC_ERROR", DeviceNotFound, "no stick"),
        ("rc: X_LINK_DEVICE_NOT_FOUND", DeviceNotFound, "no stick"),
        ("Myriad device: 1.1-ma2480 not found.", DeviceNotFound, "no stick 1.1-ma2480"),
        ("ncDeviceOpen:1013\tFailed to find booted device after boot", DeviceNotFound, "did not come back"),
        ("Device (1.1-ma2480) doesn't disappear after firmware loading", DeviceNotFound, "did not come back"),
        ("ncDeviceOpen:859\tDevice doesn't appear after boot", DeviceNotFound, "did not come back"),
        ("cannot open device: LIBUSB_ERROR_ACCESS", DeviceNotFound, "may not open"),
        ("Failed to read output from FIFO: NC_ERROR", DeviceNotFound, "does not answer any more"),
        ("X_LINK_COMMUNICATION_FAIL", DeviceNotFound, "does not answer any more"),
        ("Firmware not found in: /x/usb-ma2450.mvcmd", StageError, "firmware is not beside"),
        ("Not enough memory to allocate intermediate tensors on remote device", Unsupported, "too large"),
        ("The graph file is bigger than the device memory", Unsupported, "too large"),
        ("Maximum number of networks reached for device: 1", StageError, "as many networks as"),
        ("global mutex initialization failed", StageError, "/tmp/mvnc.mutex"),
        (
            "Cannot load library 'libmyriadPlugin.so': libusb-1.0.so.0: cannot open shared object file",
            StageError,
            "libusb is not there",
        ),
        ("Cannot load library 'libopenvino_intel_myriad_plugin.so", StageError, "no MYRIAD plug-in"),
        ('Device with "MYRIAD" name is not registered in the OpenVINO Runtime', StageError, "no MYRIAD plug"),
        ("libpython3.9.so.1.0: cannot open shared object file", StageError, "no shared library"),
        (
            f'{SOURCE}f.cpp:441 Failed to compile layer "s": unsupported layer type "Sin"',
            Unsupported,
            "no layer Sin",
        ),
        (
            f'{SOURCE}f.cpp:441 Failed to compile layer "out": {SOURCE}convolution.cpp:407 number of biases',
            Unsupported,
            "its compiler says: number of biases",
        ),
        (
            f'{SOURCE}g.cpp:88 Value of configuration option ("MYRIAD_NUMBER_OF_SHAVES") must be not greater',
            InvalidRequest,
            "NUMBER_OF_SHAVES must be not greater",
        ),
        (f"{SOURCE}something.cpp:7 Another failure", StageError, "^tried: Another failure$"),
    ],
)
def test_errors_have_a_class_and_a_hint(text: str, error: type[StageError], said: str) -> None:
    found = translate(text, "tried")
    assert type(found) is error
    assert found.hint
    assert "jenkins" not in str(found)
    with pytest.raises(error, match=said):
        raise found
