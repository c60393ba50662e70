"""What an inference needs of CUDA: memory, copies, a stream, events, a graph; by ctypes.

Of the driver (libcuda.so.1), not of the toolkit: it is where a GPU of NVIDIA's is, whatever toolkit there
is, and a function of it whose signature changes gets a new name (`cuMemAlloc_v2`). TensorRT takes its
streams and pointers in the primary context (CUDA Driver API, "Interactions with the CUDA Runtime API").
Signatures, constants and exported names: cuda.h of CUDA 11.8 and 12.6. NVIDIA's package for it,
cuda-bindings (Apache-2.0), needs Python 3.11; boards have 3.8 and 3.10.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any, Callable, Dict, Optional, Tuple

from tools.stage import DeviceNotFound, StageError
from tools.tensorrt import failures

LIBRARY = "libcuda.so.1"
SIGNATURES: Dict[str, Tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGet": (c_void_p, c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (c_void_p, c_int, c_int),
    "cuDevicePrimaryCtxRetain": (c_void_p, c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemAlloc_v2": (c_void_p, c_size_t),
    "cuMemHostAlloc": (c_void_p, c_size_t, c_uint),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuStreamCreate": (c_void_p, c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuEventCreate": (c_void_p, c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventSynchronize": (c_void_p,),
    "cuEventElapsedTime": (c_void_p, c_void_p, c_void_p),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, c_void_p),
    "cuGraphLaunch": (c_void_p, c_void_p),
}
INSTANTIATE = "cuGraphInstantiateWithFlags"  # since CUDA 11.4
BLOCKING_SYNC = 1  # CU_EVENT_BLOCKING_SYNC: the host sleeps until the event, else it polls
THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, as trtexec captures
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY


@functools.lru_cache(maxsize=None)
def driver() -> Any:
    """Return the driver's library, whose functions raise StageError where they fail.

    The primary context of the first GPU is the calling thread's from then on.

    Raises:
        DeviceNotFound: there is no driver, or no GPU that it can use.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        message = f"there is no NVIDIA GPU here: {error}"
        raise DeviceNotFound(message, hint=failures.NO_GPU) from error
    for name, types in SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.errcheck = types, _check
    library.cuStreamEndCapture.errcheck = lambda code, *_: code  # a graph that cannot be is no error
    context = c_void_p()
    try:
        library.cuInit(0)
        library.cuDevicePrimaryCtxRetain(byref(context), _device(library))
        library.cuCtxSetCurrent(context)
    except StageError as error:
        raise DeviceNotFound(str(error), hint=failures.NO_GPU) from error
    return library


def gpu() -> Tuple[str, str]:
    """Return the first GPU's name and its compute capability, e.g. `8.7`."""
    library = driver()
    device, name, value = _device(library), ctypes.create_string_buffer(256), c_int()
    library.cuDeviceGetName(name, len(name), device)
    numbers = []
    for attribute in (MAJOR, MINOR):
        library.cuDeviceGetAttribute(byref(value), attribute, device)
        numbers.append(str(value.value))
    return name.value.decode(errors="replace"), ".".join(numbers)


def device_memory(size: int) -> int:
    """Return the address of so many bytes on the GPU."""
    address = c_uint64()
    driver().cuMemAlloc_v2(byref(address), size)
    return address.value


def host_memory(size: int) -> int:
    """Return the address of so many bytes that the GPU copies from and to directly (page-locked)."""
    address = c_void_p()
    driver().cuMemHostAlloc(byref(address), size, 0)
    return address.value or 0


def stream() -> int:
    """Return a new stream."""
    made = c_void_p()
    driver().cuStreamCreate(byref(made), 0)
    return made.value or 0


def event(*, polled: bool = True) -> int:
    """Return a new event; who waits for one that is not `polled` sleeps."""
    made = c_void_p()
    driver().cuEventCreate(byref(made), 0 if polled else BLOCKING_SYNC)
    return made.value or 0


def elapsed_ms(begin: int, end: int) -> float:
    """Return the time between two events that are over; it has a resolution of about 0.5 us."""
    found = c_float()
    driver().cuEventElapsedTime(byref(found), begin, end)
    return found.value


def captured(on: int, enqueue: Callable[[], object]) -> Optional[int]:
    """Return an executable graph of what `enqueue` puts on a stream, None if that cannot be one.

    Raises:
        StageError: `enqueue` does, or CUDA refuses for another reason.
    """
    library = driver()
    graph, executable = c_void_p(), c_void_p()
    library.cuStreamBeginCapture_v2(on, THREAD_LOCAL)
    try:
        enqueue()
    finally:
        code = library.cuStreamEndCapture(on, byref(graph))
    instantiate = getattr(library, INSTANTIATE, None)
    if code or not graph or instantiate is None:
        return None
    instantiate.argtypes = (c_void_p, c_void_p, c_uint64)
    return None if instantiate(byref(executable), graph, 0) else executable.value


def _device(library: Any) -> int:
    device = c_int()
    library.cuDeviceGet(byref(device), 0)
    return device.value


def _check(code: int, function: Any, _: Any) -> int:
    if not code:
        return code
    text = c_char_p()
    ctypes.CDLL(LIBRARY).cuGetErrorString(code, byref(text))
    message = f"CUDA: {function.__name__}: {(text.value or b'').decode() or f'error {code}'}"
    raise StageError(message, hint=failures.NO_MEMORY if code == OUT_OF_MEMORY else "The log says more.")
