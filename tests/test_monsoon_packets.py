"""Packets of Monsoon's monitors to amperes and volts, and which samples were lost.

The vectors are those of the facts on the protocol: decoded by PyMonsoon 0.1.88, and by hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.monsoon.instrument import Instrument, Setup, load_ma
from tools.monsoon.host_clock import HostClock
from tools.monsoon.ledger import Ledger
from tools.monsoon.packets import LOST, Decoder, Packets, Scale
from tools.monsoon.protocol import HVPM, LVPM, Op, signed, start_request, write_request
from tools.monsoon.trigger import Gate, Trigger
from tools.stage import InvalidRequest

HVPM_SCALES = {"main": Scale(6400, 36500, 15, 15), "usb": Scale(600, 14000)}
HVPM_ZERO = "006404b0005a044c005003e8000000000010"
HVPM_REFERENCE = "4e20c3504e20c3504e206d60000000000030"
HVPM_PACKET = "0000280202bc1388012c0bb800c805dc3e809c40000002bcfde8012c0bb800c805dc3e809c400000"
LVPM_SCALES = {
    "main": Scale(3103.4 * 0.05 / 0.055, 35946 * 0.05 / 0.0569),
    "usb": Scale(3103.4 * 0.05 / 0.055, 35946 * 0.05 / 0.0569),
}
LVPM_ZERO = "ff9cff38005a006e00500064000000000010"
LVPM_REFERENCE = "4e206d604e206d604e206d60000000000030"
LVPM_PACKET = "0000280202bc1388012c0bb800c805dc83409c4000000a897fff012c0bb800c805dc8e309c400000"


def packet(*observations: str, sequence: int = 0, dropped: int = 0) -> bytes:
    head = dropped.to_bytes(2, "little") + bytes([0x20 | sequence & 15, len(observations)])
    return head + bytes.fromhex("".join(observations))


def calibrated(decoder: Decoder, zero: str, reference: str) -> Decoder:
    decode(decoder, [packet(zero, reference)] * 5)
    assert decoder.calibrated
    return decoder


def decode(decoder: Decoder, received: Sequence[bytes], start: int = 0) -> dict[str, np.ndarray]:
    packets = Packets.of(received)
    first = start + np.cumsum(packets.counts.astype(np.int64)) - packets.counts
    return decoder.decode(packets, first, np.zeros(len(received), np.int64))


def hvpm() -> Decoder:
    return calibrated(Decoder(HVPM, HVPM_SCALES), HVPM_ZERO, HVPM_REFERENCE)


@pytest.mark.parametrize(
    ("decoder", "vector", "milliamperes", "volts"),
    [
        (hvpm(), HVPM_PACKET, [2.831864, 188.282625], [4.0, 4.0]),
        (
            calibrated(Decoder(LVPM, LVPM_SCALES), LVPM_ZERO, LVPM_REFERENCE),
            *(LVPM_PACKET, [5.824552, 392.592031], [4.2, 4.55]),
        ),
    ],
)
def test_the_vectors(decoder: Decoder, vector: str, milliamperes: list[float], volts: list[float]) -> None:
    """Fine below the threshold and coarse above; the words of currents have a sign in the LVPM only."""
    got = decode(decoder, [bytes.fromhex(vector)])
    np.testing.assert_allclose(got["main_a"] * 1e3, milliamperes, atol=5e-7)
    np.testing.assert_allclose(got["main_v"], volts, rtol=1e-9)
    np.testing.assert_allclose(got["usb_v"], [5.0, 5.0], rtol=1e-9)


def test_a_padded_packet_has_no_more_samples_than_it_says() -> None:
    padded = bytes.fromhex(HVPM_PACKET).ljust(64, b"\0")
    assert len(decode(hvpm(), [padded])["main_a"]) == 2


def test_without_five_calibrations_of_each_kind_nothing_is_known() -> None:
    decoder = Decoder(HVPM, HVPM_SCALES)
    for number in range(5):
        assert not decoder.calibrated
        assert not len(
            decode(decoder, [packet(HVPM_ZERO), bytes.fromhex(HVPM_PACKET)], 10 * number)["main_a"]
        )
        decode(decoder, [packet(HVPM_REFERENCE)], 10 * number + 5)
    assert decoder.calibrated
    assert len(decode(decoder, [bytes.fromhex(HVPM_PACKET)], 100)["main_a"]) == 2


def test_a_new_calibration_holds_from_its_place_on_and_the_clock_goes_on_through_it() -> None:
    other = HVPM_REFERENCE.replace("c350", "6400")
    measured = HVPM_PACKET[8:44]
    got = decode(hvpm(), [packet(measured, other, measured)], start=100)
    assert got["time_s"] == pytest.approx([0.02, 0.0204])
    mean = (4 * 50000 + 25600) / 5
    expected = [3785 * 36500e-3 / (50000 - 1215), 3785 * 36500e-3 / (mean - 1215)]
    np.testing.assert_allclose(got["main_a"] * 1e3, expected, rtol=1e-12)


def test_a_reference_that_equals_the_zero_gives_no_current_instead_of_0() -> None:
    decoder = calibrated(Decoder(HVPM, {"main": Scale(6400, 36500)}), HVPM_ZERO, HVPM_ZERO[:-2] + "30")
    assert np.isnan(decode(decoder, [bytes.fromhex(HVPM_PACKET)])["main_a"]).all()


def test_a_calibration_word_of_zero_counts() -> None:
    nothing = "00" * 17
    decoder = calibrated(Decoder(LVPM, LVPM_SCALES), nothing + "10", LVPM_REFERENCE)
    fine = decode(decoder, [bytes.fromhex(LVPM_PACKET)])["main_a"][0]
    assert fine == pytest.approx(5000 * 35946e-6 * 0.05 / 0.0569 / 28000)


def test_negative_currents_are_kept() -> None:
    below = "0032" + "0400" + HVPM_PACKET[16:44]
    got = decode(hvpm(), [packet(below)])["main_a"]
    assert got[0] == pytest.approx((0x400 - 1215) * 36500e-6 / (50000 - 1215))
    assert got[0] < 0


def test_all_samples_of_a_second_at_once_or_packet_by_packet() -> None:
    instrument = Instrument(Setup(speed=0))
    instrument.control(0x40, 2, 1250, 0, b"\xff" * 4)
    received = [instrument.fetch(0) or b"" for _ in range(9000)]
    whole, pieces = Decoder(HVPM, HVPM_SCALES), Decoder(HVPM, HVPM_SCALES)
    together = decode(whole, received)
    apart = [decode(pieces, received[at : at + 100], 3 * at) for at in range(0, 9000, 100)]
    for name, column in together.items():
        np.testing.assert_array_equal(column, np.concatenate([part[name] for part in apart]))
    numbers = np.rint(together["time_s"] * 5000).astype(int)
    np.testing.assert_allclose(together["main_a"] * 1e3, load_ma(numbers), rtol=1e-3)


def enter(ledger: Ledger, *packets: tuple[int, int, int]) -> tuple[list[int], list[int]]:
    sequence, counter, counts = (np.array(column) for column in zip(*packets, strict=True))
    first, lost = ledger.enter(sequence, counter, counts)
    return first.tolist(), lost.tolist()


def test_counter_and_sequence_number_both_move_the_clock() -> None:
    ledger = Ledger()
    assert enter(ledger, (14, 0, 3), (15, 0, 3), (0, 0, 2)) == ([0, 3, 6], [0, 0, 0])
    assert enter(ledger, (1, 7, 3), (4, 7, 3), (5, 8, 1)) == ([15, 24, 28], [7, 13, 14])
    assert (ledger.samples, ledger.lost) == (29, 14)


def test_the_counter_wraps_and_does_not_count_in_its_first_moments() -> None:
    ledger = Ledger()
    assert enter(ledger, (0, 0xFFFF, 3), (1, 0xFFFF, 3), (2, 0, 3), (3, 2, 3))[1] == [0, 0, 0, 2]
    ledger.samples = 5000
    assert enter(ledger, (4, 0xFFFE % 65536, 3))[1] == [2]  # a step of -4: none forward
    assert ledger.not_forward == 1
    assert enter(ledger, (5, 0xFFFF, 3), (6, 1, 3))[1] == [3, 5]


def test_a_loss_is_a_row_of_nan_on_the_meters_clock() -> None:
    decoder = hvpm()
    packets = Packets.of([packet(HVPM_PACKET[8:44])] * 3)
    got = decoder.decode(packets, np.array([100, 101, 109]), np.array([5, 5, 12]))
    assert got["time_s"] == pytest.approx([0.02, 0.0202, 0.0204, 0.0218])
    assert np.isnan(got["main_a"]).tolist() == [False, False, True, False]
    assert got[LOST].tolist() == [0, 0, 7, 0]


def test_what_a_packet_is_not() -> None:
    whole = bytes.fromhex(HVPM_PACKET)
    packets = Packets.of([whole, whole[:-1], b"", b"\0\0\0\4" + bytes(72), b"\0\0\0\0"])
    assert packets.valid.tolist() == [True, False, False, False, False]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=12))
def test_no_bytes_crash_the_decoder(received: list[bytes]) -> None:
    packets = Packets.of(received)
    packets = packets.take(packets.valid)
    first, lost = Ledger().enter(packets.flags & 15, packets.dropped, packets.counts)
    got = hvpm().decode(packets, 100 + first, lost)
    assert (np.diff(got["time_s"]) > 0).all()
    assert len(got["time_s"]) <= 2 * 3 * len(received)


def test_requests_byte_by_byte() -> None:
    assert write_request(Op.MAIN_VOLTAGE, round(4.2 * (1 << 20))) == (
        *(0x40, 1, 0x3333, 0x4341),
        bytes.fromhex("33334300"),
    )
    assert start_request() == (0x40, 2, 0x04E2, 0, b"\xff" * 4)
    assert signed(0xEA, 8) == -22


def test_limits_of_current_in_the_monitors_words() -> None:
    assert (HVPM.raw_limit(15.625), HVPM.raw_limit(0)) == (65535, 3840)
    assert (LVPM.raw_limit(8), LVPM.raw_limit(0), LVPM.raw_limit(4)) == (0, 1023, 512)
    assert HVPM.limit(HVPM.raw_limit(4.6)) == pytest.approx(4.6, abs=3e-4)


def chunk(*milliamperes: float, start_s: float = 0.0) -> dict[str, np.ndarray]:
    return {"time_s": start_s + np.arange(len(milliamperes)) * 0.02, "main_a": np.array(milliamperes) / 1e3}


def test_a_trigger_with_hysteresis() -> None:
    gate = Gate(Trigger(start_ma=100, stop_ma=50).check())
    assert len(gate.take(chunk(10, 99, 60))["main_a"]) == 0
    assert gate.take(chunk(10, 120, 70, 40, 90, 45, 45))["main_a"] == pytest.approx(
        [0.12, 0.07, 0.04, 0.09, 0.045, 0.045]
    )
    assert not gate.closed
    rest = gate.take(chunk(45, 45, 45, 45, 45, start_s=0.14))
    assert gate.closed
    assert rest["time_s"] == pytest.approx([0.14, 0.16, 0.18])


def test_a_recording_of_so_many_samples() -> None:
    gate = Gate(Trigger(samples=5))
    assert len(gate.take(chunk(1, 2, 3))["main_a"]) == 3
    assert gate.take(chunk(4, 5, 6))["main_a"] == pytest.approx([0.004, 0.005])
    assert gate.closed


@pytest.mark.parametrize("trigger", [Trigger(start_ma=10, stop_ma=20), Trigger(samples=-1)])
def test_a_trigger_that_makes_no_sense(trigger: Trigger) -> None:
    with pytest.raises(InvalidRequest):
        trigger.check()


def test_the_hosts_clock_by_the_least_late_arrivals() -> None:
    """30 ppm apart, 0.3 ms at least and up to 20 ms late: found within the error that is stated."""
    random = np.random.default_rng(1)
    time_s = np.arange(0, 60, 0.0006)
    arrival = 1000 + time_s * (1 + 30e-6) + 0.0003 + random.exponential(0.002, len(time_s))
    clock = HostClock()
    for at in range(0, len(time_s), 200):
        clock.arrived(time_s[at : at + 200], arrival[at : at + 200])
    found = clock.clock
    assert found is not None
    assert abs(found.monotonic_s - 1000) <= 2 * found.error_s
    assert found.error_s < 0.002
    assert found.rate_error == pytest.approx(30e-6, abs=3e-6)
