"""What a monitor on USB is set to, and how it is set: output, limits, passthrough, calibration values."""

from __future__ import annotations

from typing import Any, Mapping

from tools.monsoon import protocol
from tools.monsoon.packets import Scale
from tools.monsoon.protocol import HVPM, Op, signed
from tools.monsoon.usb_meter import UsbMeter
from tools.stage import StageError

REPAIR = "Monsoon's PyMonsoon can repair it, with firmware 32: HVPM.calibrateVoltage()."
# Of the LVPM: scales for its two ranges with a shunt of SHUNT_OHM; each unit says how far its own are off, in
# STEP_OHM, with sign (PyMonsoon reads that without: -22 becomes 234).
SHUNT_OHM, STEP_OHM = 0.05, 1e-4
LVPM_FINE, LVPM_COARSE = 35946.0, 3103.4
SHUNTS = {
    "main": (Op.MAIN_COARSE_R, Op.MAIN_FINE_R),
    "usb": (Op.USB_COARSE_R, Op.USB_FINE_R),
}
SCALES = {
    "main": (Op.MAIN_COARSE_SCALE, Op.MAIN_FINE_SCALE, Op.MAIN_COARSE_ZERO, Op.MAIN_FINE_ZERO),
    "usb": (Op.USB_COARSE_SCALE, Op.USB_FINE_SCALE, Op.USB_COARSE_ZERO, Op.USB_FINE_ZERO),
}


class UsbSupply:
    """The settings of an opened monitor."""

    def __init__(self, meter: UsbMeter) -> None:
        self.model = meter.model
        self._meter = meter

    @property
    def volts(self) -> float:
        """What the output is set to, V; 0 is off."""
        return round(self._meter.get(Op.MAIN_VOLTAGE, 32) / protocol.VOLT, 6)

    def set_volts(self, volts: float) -> None:
        """Set the output; 0 switches it off. The caller has checked that the model can.

        Raises:
            StageError: the HVPM's own calibration is wrong, so that it would give another voltage.
        """
        if volts and self.model is HVPM:
            self._check_calibration()
        self._meter.set(Op.MAIN_VOLTAGE, round(volts * protocol.VOLT))

    def set_limits(self, power_up_a: float, run_a: float) -> None:
        """Set the current limits, A; 0 leaves one as it is."""
        for op, amperes in ((Op.POWER_UP_LIMIT, power_up_a), (Op.RUN_LIMIT, run_a)):
            if amperes:
                self._meter.set(op, self.model.raw_limit(amperes))

    def set_passthrough(self, mode: str) -> None:
        """Connect the device's USB to the computer's: off, on, auto (not while it samples)."""
        self._meter.set(Op.USB_PASSTHROUGH, protocol.PASSTHROUGH.index(mode))

    def scales(self, channels: Mapping[str, object]) -> dict[str, Scale]:
        """Return what its currents are to be calculated with."""
        if self.model is HVPM:
            return {channel: self._hvpm_scale(*SCALES[channel]) for channel in channels}
        return {channel: self._lvpm_scale(*SHUNTS[channel]) for channel in channels}

    def state(self) -> dict[str, Any]:
        """Return what it says of itself; over USB its temperature is not to be had."""
        get = self._meter.get
        mode = get(Op.USB_PASSTHROUGH, 8)
        return {
            "device": f"Monsoon {self.model.name}",
            "serial": str(get(Op.SERIAL)),
            "firmware": str(get(Op.FIRMWARE)),
            "protocol": get(Op.PROTOCOL, 8),
            "output_v": self.volts,
            "power_up_limit_a": round(self.model.limit(get(Op.POWER_UP_LIMIT)), 3),
            "run_limit_a": round(self.model.limit(get(Op.RUN_LIMIT)), 3),
            "power_up_time_ms": get(Op.POWER_UP_TIME_MS, 8),
            "usb_passthrough": protocol.PASSTHROUGH[mode] if mode < len(protocol.PASSTHROUGH) else mode,
            "temperature_limit_c": signed(get(Op.TEMPERATURE_LIMIT), 16) / 256
            if self.model is HVPM
            else None,
            "dac_calibration": [hex(get(Op.DAC_LOW)), hex(get(Op.DAC_HIGH))],
            "simulated": self._meter.simulated,
        }

    def _check_calibration(self) -> None:
        values = (self._meter.get(Op.DAC_LOW), self._meter.get(Op.DAC_HIGH))
        ranges = (protocol.DAC_LOW_BETWEEN, protocol.DAC_HIGH_BETWEEN)
        if not all(low < value < high for value, (low, high) in zip(values, ranges)):
            said = ", ".join(f"{value:#x}" for value in values)
            message = f"the monitor's calibration of its output is wrong ({said}): it stays as it is"
            raise StageError(message, hint=REPAIR)

    def _hvpm_scale(self, coarse: Op, fine: Op, coarse_zero: Op, fine_zero: Op) -> Scale:
        get = self._meter.get
        zeros = (float(signed(get(coarse_zero), 16)), float(signed(get(fine_zero), 16)))
        return Scale(float(get(coarse)), float(get(fine)), *zeros)

    def _lvpm_scale(self, coarse: Op, fine: Op) -> Scale:
        ohms = [SHUNT_OHM + STEP_OHM * signed(self._meter.get(op, 8), 8) for op in (coarse, fine)]
        return Scale(LVPM_COARSE * SHUNT_OHM / ohms[0], LVPM_FINE * SHUNT_OHM / ohms[1])
