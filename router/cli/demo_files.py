"""The demonstration's sample studies: made, sent by our own couriers, compared with what the receivers wrote."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import groupby
from pathlib import Path

import msgspec
from pydicom import dcmread
from pydicom.uid import ExplicitVRBigEndian

from router.cli.samples import ct_series, wheel_instances
from router.config.model import DimseDestination, StowDestination
from router.delivery.cstore import CStoreCourier
from router.delivery.stow import StowCourier
from router.dicom.envelope import Declared
from router.dicom.part10 import PrefaceReader
from router.dicom.transfer_syntax import is_web_transferable
from router.dicom.uids import AETitle
from router.errors import DeliveryError
from router.journal.records import Delivery
from router.sending.courier import Courier, Outcome, Verdict
from router.store.files import Store

SLICES = 150
"""Generated CT slices of each of two series."""


class Sample(msgspec.Struct, frozen=True):
    """One PS3.10 file: its path, what it declares, where its data set begins, and the data set."""

    path: Path
    declared: Declared
    data_set_offset: int
    data_set: bytes


class Likeness(StrEnum):
    """How a delivered data set compares with the one sent."""

    IDENTICAL = "identical"
    REENCODED = "re-encoded"
    """Other bytes, equal values: from Implicit VR or Big Endian, which web services forbid."""
    CHANGED = "changed"


def make_samples(folder: Path) -> list[Sample]:
    """Write the sample studies into `folder`/store, where a `Store` of `folder` finds them."""
    store = folder / "store"
    wheel_instances(store)
    for patient, size in (("SAMPLE-A", 128), ("SAMPLE-B", 256)):
        list(ct_series(store, SLICES, rows=size, columns=size, patient_id=patient))
    return [read_sample(path) for path in sorted(store.iterdir())]


def read_sample(path: Path) -> Sample:
    """Read a PS3.10 file. Raises Refused when it is none."""
    reader = PrefaceReader()
    content = path.read_bytes()
    data_set = bytes(reader.feed(content))
    assert reader.declared is not None
    return Sample(path, reader.declared, len(content) - len(data_set), data_set)


async def send_by_c_store(samples: Sequence[Sample], store: Store, port: int) -> None:
    """Send over one association. Raises DeliveryError when the router did not take one."""
    destination = DimseDestination(name="router", ae_title="SENDRS", host="127.0.0.1", port=port)
    await _send(samples, CStoreCourier(destination, AETitle("DEMO"), store))


async def send_by_stow(samples: Sequence[Sample], store: Store, url: str) -> None:
    """Send in STOW-RS requests. Raises DeliveryError when the router did not take one."""
    await _send(samples, StowCourier(StowDestination(name="router", url=url), store))


async def _send(samples: Sequence[Sample], courier: Courier) -> None:
    async def report(outcome: Outcome) -> None:
        if outcome.verdict is not Verdict.COMPLETED:
            raise DeliveryError(f"{outcome.delivery.file} was not taken: {outcome.reason}")

    session = courier.session()
    try:
        for batch in _batches(samples, courier.batch_instances):
            await session.deliver([_delivery(number, sample) for number, sample in batch], report)
    finally:
        await session.aclose()


def _batches(samples: Sequence[Sample], size: int) -> Iterable[list[tuple[int, Sample]]]:
    for _, batch in groupby(enumerate(samples), key=lambda pair: pair[0] // size):
        yield list(batch)


def _delivery(number: int, sample: Sample) -> Delivery:
    return Delivery.of_file(
        number,
        sample.declared,
        sample.path.name,
        offset=sample.data_set_offset,
        size=len(sample.data_set),
        sha256=hashlib.sha256(sample.data_set).digest(),
    )


def compare(sample: Sample, received: Path) -> Likeness:
    """Compare a sample with the file that a receiver wrote."""
    arrived = read_sample(received)
    if arrived.declared == sample.declared and arrived.data_set == sample.data_set:
        return Likeness.IDENTICAL
    if is_web_transferable(sample.declared.transfer_syntax_uid) or not is_web_transferable(
        arrived.declared.transfer_syntax_uid
    ):
        return Likeness.CHANGED
    return Likeness.REENCODED if _values(sample.path) == _values(received) else Likeness.CHANGED


def _values(path: Path) -> list[tuple[int, str]]:
    """Give each element of a file as its tag and its value written out, VR encoding and byte order aside."""
    dataset = dcmread(path)
    big_endian = dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    return [
        (int(element.tag), _swapped(element.value) if big_endian and element.VR == "OW" else str(element.value))
        for element in dataset.iterall()
        if element.tag.element != 0
    ]


def _swapped(words: bytes) -> str:
    """pydicom gives OW as it stands in the file; write it out as Little Endian would be."""
    swapped = array("H", words)
    swapped.byteswap()
    return str(swapped.tobytes())
