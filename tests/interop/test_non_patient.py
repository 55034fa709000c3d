"""Non-patient instances through the real daemon: in by C-STORE and web, searched, retrieved, sent by C-STORE and web.

REQ-069 to REQ-095, for every SOP class: one daemon in front of dcmtk's storescp and of a second daemon.
"""

from __future__ import annotations

import http.client
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import npi_samples
import pydicom
import pytest
from ledger import data_set_of
from npi_samples import SOP_CLASSES, VARIANTS, query_value, sample, uid_of
from peers import Daemon, StoreScp, require, wait_until
from pynetdicom import AE

from router.dicom.attributes import path_name
from router.dicom.non_patient import Category, Usage
from router.dicom.uids import Uid

pytestmark = pytest.mark.interop

JSON = "application/dicom+json"
INVENTORY = Uid("1.2.840.10008.5.1.4.1.1.201.1")
HANGING = Uid("1.2.840.10008.5.1.4.38.1")
DELIVER_S = 60.0
SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99")
CONFIG = """
[destinations.archive]
kind = "dimse"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {archive}

[destinations.ruled]
kind = "dimse"
ae_title = "RULED"
host = "127.0.0.1"
port = {ruled}

[destinations.other]
kind = "stow-rs"
url = "{other}"
"""
RULE = f"""
[[rule]]
name = "Inventories"
match = {{ SOPClassUID = "{INVENTORY}" }}
send = ["ruled"]
"""
BY_C_STORE = (0, 1)
BY_WEB = 2


class NonPatientScp(StoreScp):
    """A storescp that is told the SOP classes: of those that it knows, it takes those of patients by itself only."""

    def command(self) -> list[str]:
        contexts = [f"PresentationContext{n} = {uid}\\Any" for n, (_, uid) in enumerate(SOP_CLASSES, start=1)]
        syntaxes = [f"TransferSyntax{n} = {uid}" for n, uid in enumerate(SYNTAXES, start=1)]
        profile = ["[[TransferSyntaxes]]", "[Any]", *syntaxes, "[[PresentationContexts]]", "[All]", *contexts]
        file = self.folder / "storescp.cfg"
        file.write_text("\n".join([*profile, "[[Profiles]]", "[Default]", "PresentationContexts = All", ""]))
        return [require("storescp"), "+B", "-xf", str(file), "Default", "-od", str(self.received), str(self.port)]


@dataclass(frozen=True)
class Site:
    """The router, and where it sends to."""

    router: Daemon
    archive: StoreScp
    ruled: StoreScp
    other: Daemon


def c_store(daemon: Daemon, files: list[bytes]) -> None:
    data_sets = [pydicom.dcmread(io.BytesIO(file)) for file in files]
    ae = AE("MODALITY")
    for one in data_sets:
        ae.add_requested_context(one.SOPClassUID, one.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", daemon.dicom_port, ae_title=daemon.ae_title)
    assert association.is_established
    try:
        assert [association.send_c_store(one).Status for one in data_sets] == [0] * len(data_sets)
    finally:
        association.release()


def ask(
    daemon: Daemon, target: str, *, method: str = "GET", accept: str = JSON, body: bytes | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=30)
    headers = {"Accept": accept} | ({"Content-Type": "application/dicom"} if body else {})
    connection.request(method, f"/dicom-web/{target}", body=body, headers=headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def found(daemon: Daemon, category: Category, query: str = "") -> list[str]:
    status, content = ask(daemon, f"{category.name}?{query}" if query else category.name)
    assert status in (200, 204)
    return [one["00080018"]["Value"][0] for one in json.loads(content)] if status == 200 else []


def counters(content: bytes) -> tuple[int, int, int]:
    """Completed, warning, failed."""
    [module] = json.loads(content)
    completed, warning, failed = (module[tag]["Value"][0] for tag in ("00001021", "00001023", "00001022"))
    return completed, warning, failed


def send_to_its_end(daemon: Daemon, category: Category, transaction: str, query: str) -> bytes:
    """Send, and check until it is over; gives the last module."""
    target = f"{category.name}/send-requests/{transaction}"
    status, content = ask(daemon, f"{target}?{query}", method="POST")
    assert status == 202

    def ended() -> bool:
        nonlocal status, content
        time.sleep(0.25)
        status, content = ask(daemon, target)
        assert status in (200, 202)
        return status == 200

    wait_until(ended, DELIVER_S, f"the end of {transaction}")
    return content


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Everything running, and three instances of every SOP class in the router: two by C-STORE, one by web."""
    folder = tmp_path_factory.mktemp("npi")
    with (
        NonPatientScp(folder / "archive") as archive,
        NonPatientScp(folder / "ruled") as ruled,
        Daemon(folder / "other") as other,
        Daemon(
            folder / "sendrs", CONFIG.format(archive=archive.port, ruled=ruled.port, other=other.url), RULE
        ) as router,
    ):
        c_store(router, [sample(sop_class, variant) for _, sop_class in SOP_CLASSES for variant in BY_C_STORE])
        for category, sop_class in SOP_CLASSES:
            status, _ = ask(router, category.name, method="POST", body=sample(sop_class, BY_WEB))
            assert status == 200
        yield Site(router, archive, ruled, other)


each_sop_class = pytest.mark.parametrize(("category", "sop_class"), SOP_CLASSES, ids=[uid for _, uid in SOP_CLASSES])


@each_sop_class
def test_req_084_each_matching_key_finds_the_right_one(site: Site, category: Category, sop_class: Uid) -> None:
    for key in category.tables[sop_class]:
        if key.usage is Usage.RETURNED or key.path == (0x00080016,):
            continue
        for variant in VARIANTS:
            uid = uid_of(sop_class, variant)
            value = uid if key.path == (0x00080018,) else query_value(key.path, variant)
            hits = found(
                site.router, category, f"{path_name(key.path)}={quote(value, safe='')}&SOPClassUID={sop_class}"
            )
            assert hits == [uid], path_name(key.path)


@each_sop_class
def test_req_070_each_is_retrieved_as_it_was_stored(site: Site, category: Category, sop_class: Uid) -> None:
    for variant in VARIANTS:
        target = f"{category.name}/{uid_of(sop_class, variant)}"
        status, content = ask(site.router, target, accept="application/dicom; transfer-syntax=*")
        assert status == 200
        assert pydicom.dcmread(io.BytesIO(content)) == npi_samples.data_set(sop_class, variant)
        status, content = ask(site.router, target)
        [metadata] = json.loads(content)
        assert (status, metadata["00080018"]["Value"]) == (200, [uid_of(sop_class, variant)])


@each_sop_class
def test_req_069_078_088_sent_by_c_store(site: Site, category: Category, sop_class: Uid) -> None:
    """Also REQ-076, REQ-093, REQ-094: the destination is an application entity, named by its dicom:// alias."""
    url = quote(f"dicom://127.0.0.1:{site.archive.port}/ARCHIVE", safe="")
    number = SOP_CLASSES.index((category, sop_class))
    module = send_to_its_end(
        site.router, category, f"1.2.7433.1.{number}", f"destination={url}&SOPClassUID={sop_class}"
    )
    assert counters(module) == (3, 0, 0)
    there = {data_set_of(path.read_bytes()) for path in site.archive.files()}
    for variant in BY_C_STORE:  # the deflated one is written anew by storescp
        assert data_set_of(sample(sop_class, variant)) in there


@each_sop_class
def test_req_069_078_088_sent_to_the_same_service_of_another_router(
    site: Site, category: Category, sop_class: Uid
) -> None:
    url = quote(f"{site.other.url}/{category.name}" if sop_class == HANGING else site.other.url, safe="")
    number = SOP_CLASSES.index((category, sop_class))
    module = send_to_its_end(
        site.router, category, f"1.2.7433.2.{number}", f"destination={url}&SOPClassUID={sop_class}"
    )
    assert counters(module) == (3, 0, 0)
    there = found(site.other, category, f"SOPClassUID={sop_class}")
    assert sorted(there) == [uid_of(sop_class, one) for one in VARIANTS]
    for variant in VARIANTS:
        target = f"{category.name}/{uid_of(sop_class, variant)}"
        _, content = ask(site.other, target, accept="application/dicom; transfer-syntax=*")
        assert pydicom.dcmread(io.BytesIO(content)) == npi_samples.data_set(sop_class, variant)


def test_req_077_the_outcome_is_given_at_once_when_asked_for(site: Site) -> None:
    target = f"hanging-protocols/send-requests/1.2.7433.3?destination={quote(site.other.url, safe='')}"
    connection = http.client.HTTPConnection("127.0.0.1", site.router.http_port, timeout=60)
    connection.request("POST", f"/dicom-web/{target}", headers={"Accept": JSON, "Prefer": "wait=30"})
    response = connection.getresponse()
    assert (response.status, counters(response.read())) == (200, (3, 0, 0))
    connection.close()


def test_rules_send_them_and_what_no_rule_sends_is_unrouted(site: Site) -> None:
    wait_until(lambda: len(site.ruled.files()) == 3, DELIVER_S, "three inventories by rule")
    unrouted = json.loads(site.router.cli("unrouted", "--json").stdout)
    text = json.dumps(unrouted)
    for _, sop_class in SOP_CLASSES:
        for variant in VARIANTS:
            assert (f'"{uid_of(sop_class, variant)}"' in text) == (sop_class != INVENTORY)


def test_they_are_no_studies(site: Site) -> None:
    assert ask(site.router, "studies") == (204, b"")
    assert ask(site.router, "instances") == (204, b"")


def test_a_lost_journal_is_made_again_with_them(tmp_path: Path) -> None:
    [category] = [category for category, sop_class in SOP_CLASSES if sop_class == HANGING]
    with Daemon(tmp_path / "sendrs") as router:
        c_store(router, [sample(HANGING, variant) for variant in BY_C_STORE])
        router.stop()
        for file in router.state_folder.glob("journal*"):
            file.unlink()
        router.start()
        assert found(router, category, "NumberOfScreens=20") == [uid_of(HANGING, 1)]
