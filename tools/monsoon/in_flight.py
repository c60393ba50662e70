"""Several reads under way at once, by libusb's asynchronous interface.

pyusb reads one after the other. Threads with a read each would bring packets out of order, a late one by any
number of places, which a sequence number of 4 bits does not mend (tried: it failed under load). libusb itself
can have many transfers at one endpoint, which end in their order. So its C interface is called here (libusb
1.0, "Asynchronous device I/O"), with the structures that pyusb 1.3.1 has for isochronous transfers.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, Optional

from tools.monsoon.transfers import Append, lost
from tools.stage import StageError

IN_FLIGHT = 16  # with three samples each 9.6 ms, beside the 3.2 ms that the device keeps
LOOK_US = 50_000  # how often it is looked whether to stop
BULK = 2  # libusb_transfer_type
COMPLETED, TIMED_OUT, CANCELLED, NO_DEVICE = 0, 2, 3, 5  # libusb_transfer_status


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("microseconds", ctypes.c_long))


class InFlight:
    """Reads an endpoint of an opened device of pyusb's, whose interface is claimed."""

    def __init__(self, device: Any, endpoint: int, size: int) -> None:
        from usb.backend import libusb1

        self._lib, self._context = device.backend.lib, device.backend.ctx
        self._append: Append = lambda _: None
        self._stopping = threading.Event()
        self._failure: Optional[StageError] = None
        self._under_way = 0
        self._ended = libusb1._libusb_transfer_cb_fn_p(self._on_end)  # kept: C has the only other reference
        self._buffers = [ctypes.create_string_buffer(size) for _ in range(IN_FLIGHT)]
        self._transfers = [self._lib.libusb_alloc_transfer(0) for _ in self._buffers]
        for transfer, buffer in zip(self._transfers, self._buffers):
            fields = transfer.contents
            fields.dev_handle = device._ctx.handle.handle
            fields.endpoint, fields.type, fields.timeout, fields.length = endpoint, BULK, 0, size
            fields.buffer = ctypes.addressof(buffer)
            fields.callback = self._ended

    def pump(self, append: Append, stopping: threading.Event) -> None:
        """Read until `stopping` is set.

        Raises:
            DeviceNotFound: the device is gone.
        """
        self._append, self._stopping = append, stopping
        for transfer in self._transfers:
            self._submit(transfer)
        cancelled = False
        while self._under_way:
            self._lib.libusb_handle_events_timeout(self._context, ctypes.byref(_Time(0, LOOK_US)))
            if (stopping.is_set() or self._failure) and not cancelled:
                cancelled = True
                for transfer in self._transfers:
                    self._lib.libusb_cancel_transfer(transfer)  # of one that has ended it does nothing
        for transfer in self._transfers:
            self._lib.libusb_free_transfer(transfer)
        if self._failure:
            raise self._failure

    def _submit(self, transfer: Any) -> None:
        code = self._lib.libusb_submit_transfer(transfer)
        if code:
            self._failure = self._failure or lost(f"libusb submits no transfer ({code})")
        else:
            self._under_way += 1

    def _on_end(self, transfer: Any) -> None:
        """Take what a transfer brought and submit it again. libusb calls this in the order of the data."""
        fields = transfer.contents
        self._under_way -= 1
        if fields.actual_length:
            self._append(ctypes.string_at(fields.buffer, fields.actual_length))
        if fields.status in (COMPLETED, TIMED_OUT):
            if not self._stopping.is_set() and not self._failure:
                self._submit(transfer)
        elif fields.status == NO_DEVICE:
            self._failure = self._failure or lost("it left the bus")
        elif fields.status != CANCELLED:
            self._failure = self._failure or lost(f"a transfer ended with status {fields.status}")
