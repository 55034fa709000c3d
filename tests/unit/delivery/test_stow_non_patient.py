"""STOW-RS out, of non-patient instances: to the resource of their category, one a request; what its answer says."""

from __future__ import annotations

import pytest
from scripted_origin import Asked, Origin, answer, module, serving, store_all
from test_stow import FakeDataSets, Told, deliver

from router.config.model import StowDestination
from router.delivery.stow import StowCourier
from router.delivery.stow_targets import resource_url
from router.dicom.envelope import Declared
from router.dicom.non_patient import CATEGORIES
from router.dicom.status import Verdict
from router.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN
from router.dicom.uids import Uid
from router.journal.records import Delivery

HANGING = Uid("1.2.840.10008.5.1.4.38.1")


def non_patient(data_sets: FakeDataSets, number: int, sop_class: Uid = HANGING) -> Delivery:
    made = data_sets.delivery(number)
    declared = Declared(sop_class, Uid(f"1.2.{number}"), EXPLICIT_VR_LITTLE_ENDIAN)
    return Delivery(
        *(number, number, 1, 0, 0.0, number),
        declared,
        made.file,
        made.data_set_offset,
        made.data_set_bytes,
        made.data_set_sha256,
    )


async def test_req_078_each_goes_alone_to_its_own_resource_and_patients_together_to_studies() -> None:
    """REQ-078: STOW to /{npi-name}; O-52: one instance a request."""
    data_sets = FakeDataSets()
    classes = [next(iter(category.tables)) for category in CATEGORIES.values()]
    batch = [data_sets.delivery(1), data_sets.delivery(2)]
    batch += [non_patient(data_sets, number, sop_class) for number, sop_class in enumerate(classes, start=3)]
    batch += [data_sets.delivery(20)]
    origin = Origin(script=store_all)
    told = await deliver(origin, data_sets, batch)
    assert set(told.verdicts.values()) == {Verdict.COMPLETED}
    assert len(told.verdicts) == len(batch)
    assert [(asked.target, len(asked.parts)) for asked in origin.requests] == [
        ("/dicom-web/studies", 2),
        *((f"/dicom-web/{name}", 1) for name in CATEGORIES),
        ("/dicom-web/studies", 1),
    ]


@pytest.mark.parametrize(
    ("url", "resource", "target"),
    [
        ("https://a/dicom-web", "studies", "https://a/dicom-web/studies"),
        ("https://a/dicom-web/studies", "studies", "https://a/dicom-web/studies"),
        ("https://a/dicom-web", "hanging-protocols", "https://a/dicom-web/hanging-protocols"),
        ("https://a/dicom-web/hanging-protocols", "hanging-protocols", "https://a/dicom-web/hanging-protocols"),
        ("https://a/dicom-web/studies", "hanging-protocols", "https://a/dicom-web/hanging-protocols"),
        ("https://a/dicom-web/inventories", "studies", "https://a/dicom-web/studies"),
        ("https://a:8042", "inventories", "https://a:8042/inventories"),
        ("https://a/my-studies", "studies", "https://a/my-studies/studies"),
    ],
)
def test_o_08_a_url_that_names_a_resource_is_used_as_it_is(url: str, resource: str, target: str) -> None:
    assert resource_url(url, resource) == target


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (answer(200, module(stored={"1.2.1": None})), Verdict.COMPLETED),
        (answer(200, module(stored={"1.2.1": 0xB000})), Verdict.WARNING),
        (answer(200, module(failed={"1.2.1": 0xA900})), Verdict.INSTANCE),
        (answer(200, b"", content_type=""), Verdict.COMPLETED),
        (answer(200, b"All is well.", content_type="text/plain"), Verdict.COMPLETED),
        (answer(200, b"<html>Log in</html>", content_type="text/html"), Verdict.UNCERTAIN),
        (answer(202, b"", content_type=""), Verdict.WARNING),
        (answer(409, b"", content_type=""), Verdict.INSTANCE),
        (answer(409, module(failed={"1.2.1": 0x0122})), Verdict.NEVER),
        (answer(415, b"", content_type=""), Verdict.NEVER),
    ],
)
async def test_o_52_the_module_is_believed_first_and_else_the_status(reply: bytes, verdict: Verdict) -> None:
    data_sets = FakeDataSets()
    told = await deliver(Origin(script=lambda _: reply), data_sets, [non_patient(data_sets, 1)])
    assert told.verdicts == {1: verdict}


async def test_one_that_is_damaged_does_not_keep_the_others_back() -> None:
    data_sets = FakeDataSets()
    batch = [non_patient(data_sets, number) for number in (1, 2, 3)]
    data_sets.damage(batch[1])
    told = await deliver(Origin(script=store_all), data_sets, batch)
    assert told.verdicts == {1: Verdict.COMPLETED, 2: Verdict.NEVER, 3: Verdict.COMPLETED}


async def test_a_lane_that_has_enough_is_sent_no_more() -> None:
    data_sets = FakeDataSets()
    origin = Origin(script=store_all)
    batch = [non_patient(data_sets, number) for number in (1, 2, 3)]
    await deliver(origin, data_sets, batch, Told(enough_after=1))
    assert len(origin.requests) == 1


async def test_the_probe_asks_for_studies_whatever_the_url_names() -> None:
    asked_for: list[str] = []

    def script(asked: Asked) -> bytes:
        asked_for.append(asked.target)
        return answer(204)

    async with serving(Origin(script=script)) as origin:
        destination = StowDestination(name="cloud", url=f"{origin.url}/hanging-protocols")
        await StowCourier(destination, FakeDataSets()).probe()
    assert asked_for == ["/dicom-web/studies?limit=1"]
