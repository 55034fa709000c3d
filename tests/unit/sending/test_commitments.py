"""Storage commitment asked of us: who sees what, what we commit to, whom we ask, and how the requester hears of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from sending_harness import CT, NOON, DirectJournal, StillClock, add_instances

from router.commitment import expiry, requests
from router.commitment.asking import AGAIN_FIRST_S, Asking
from router.commitment.deciding import PAGE, Deciding
from router.commitment.language import Forgotten, Reference, Ruling
from router.commitment.reporting import Reporting
from router.commitment.requests import OPERATOR, Commitments, Gone, UidInUse, UnknownCommitment
from router.config.model import (
    CommitmentConfig,
    Config,
    DimseDestination,
    DimseUpstream,
    Proxy,
    SendRsDestination,
    StowDestination,
    WebUpstream,
)
from router.dicom.uids import Uid
from router.errors import Misconfigured, Refused, Transient
from router.journal import commitment_reports, commitments
from router.journal.commitment_reports import Report
from router.journal.journal import Journal
from router.sending import requests as send_requests
from router.store.files import DamagedFile, Located, Store

UID = Uid("1.2.826.77")
HOUR, DAY = 3600.0, 86_400.0
MR = Uid("1.2.840.10008.5.1.4.1.1.4")

pytestmark = pytest.mark.anyio


class Disk:
    """The store, of which only `confirm` is asked; `damaged` names files that are."""

    def __init__(self) -> None:
        self.damaged: set[str] = set()
        self.read: list[str] = []

    async def confirm(self, located: Located) -> None:
        self.read.append(located.file)
        if located.file in self.damaged:
            raise DamagedFile(located.file, "its content is not what was received (SHA-256)")


class Upstream:
    """Who is asked. `answers` are given, or raised, one after the other; None from then on."""

    poll_s = 10.0

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Uid] = []
        self.checked: list[Uid] = []

    async def ask(self, transaction_uid: Uid, references: Sequence[Reference]) -> Sequence[Ruling] | None:
        self.asked.append(transaction_uid)
        return self._answer(references)

    async def check(self, transaction_uid: Uid, references: Sequence[Reference]) -> Sequence[Ruling] | None:
        self.checked.append(transaction_uid)
        return self._answer(references)

    def _answer(self, references: Sequence[Reference]) -> Sequence[Ruling] | None:
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if answer == "all":
            return [Ruling(one) for one in references]
        return cast(Sequence[Ruling] | None, answer)


class Requester:
    """Who is reported to. `outcomes` are raised one after the other; then it takes reports."""

    def __init__(self, *outcomes: Exception) -> None:
        self.outcomes = list(outcomes)
        self.reports: list[tuple[Report, list[int | None]]] = []

    async def take(self, report: Report, rulings: Sequence[Ruling]) -> None:
        if self.outcomes:
            raise self.outcomes.pop(0)
        self.reports.append((report, [one.failure_reason for one in rulings]))


class Ward:
    """A journal, a disk, a clock that stands still, and the parts of storage commitment on them."""

    def __init__(self, means: str = "stored", **commitment: Any) -> None:
        self.journal, self.clock, self.disk = DirectJournal(), StillClock(), Disk()
        self.askers: dict[str, Upstream] = {}
        self.requester = Requester()
        self.config = Config(
            file=Path("router.toml"),
            commitment=CommitmentConfig(means=means, **commitment),  # type: ignore[arg-type]
            destinations={
                "archive": DimseDestination(name="archive", ae_title="ARCHIVE", host="pacs.test"),
                "vault": DimseDestination(name="vault", ae_title="VAULT", host="v.test", confirm="commitment"),
                "cloud": StowDestination(name="cloud", url="https://cloud.test"),
                "relay": SendRsDestination(name="relay", url="https://relay.test", target="https://t.test"),
            },
            proxies={
                "pacs": Proxy(name="pacs", upstream=DimseUpstream(ae_title="PACS", host="pacs.test"), base_path="/p"),
                "web": Proxy(name="web", upstream=WebUpstream(url="https://up.test"), ae_title="WEBPROXY"),
            },
        )
        journal = cast(Journal, self.journal)
        self.woken = 0
        self.commitments = Commitments(journal, self.get_config, clock=self.clock, wake=self.wake)
        self.deciding = Deciding(
            journal, cast(Store, self.disk), self.get_config, clock=self.clock, asked=self.wake, decided=self.wake
        )
        self.asking = Asking(journal, self.askers.get, clock=self.clock, decided=self.wake)
        self.reporting = Reporting(journal, self.get_config, self.bring, clock=self.clock)

    def get_config(self) -> Config:
        return self.config

    def wake(self) -> None:
        self.woken += 1

    async def bring(self, report: Report, rulings: Sequence[Ruling]) -> None:
        await self.requester.take(report, rulings)

    async def ask(self, *instances: int, sop_class: Uid = CT, uid: Uid = UID, **more: Any) -> None:
        references = [Reference(sop_class, Uid(f"1.2.9.{n}")) for n in instances]
        values: dict[str, Any] = {"origin": "web", "requester": "10.0.0.5", "references": references, **more}
        await self.commitments.submit(transaction_uid=uid, **values)

    async def ask_by_dimse(self, *instances: int, **more: Any) -> None:
        await self.ask(*instances, origin="dimse", requester="MODALITY", called_aet="SENDRS", **more)

    async def reasons(self, uid: Uid = UID) -> list[int | None] | None:
        """Failure Reasons in the order of the request; None while it is open."""
        state = await self.commitments.state(uid, OPERATOR)
        return [one.failure_reason for one in state.rulings] if state.finished else None

    def end(self, state: str, destination: str, *instances: int) -> None:
        for n in instances:
            self.journal.rows(
                "UPDATE sub_operation SET state = ? WHERE destination = ? AND sop_instance_uid = ?",
                *(state, destination, f"1.2.9.{n}"),
            )

    async def after(self, seconds: float) -> None:
        """Let time pass, and everybody look once."""
        await self.clock.advance(seconds)
        await self.deciding.look()
        await self.asking.look()
        await self.deciding.look()
        await self.reporting.look()

    def shown(self) -> commitment_reports.CommitmentSummary:
        return commitment_reports.summaries(self.journal.conn)[0]


# --- taken, seen, forgotten ----------------------------------------------------------------------------------------


async def test_a_request_is_seen_by_who_made_it_and_by_the_operator_alone() -> None:
    ward = Ward()
    add_instances(ward.journal.conn, 1)
    await ward.ask(1)
    assert ward.woken == 1
    assert not (await ward.commitments.state(UID, "10.0.0.5")).finished
    assert not (await ward.commitments.state(UID, OPERATOR)).finished
    with pytest.raises(UnknownCommitment):
        await ward.commitments.state(UID, "10.0.0.6")
    with pytest.raises(UnknownCommitment):
        await ward.commitments.state(Uid("1.2.3"), OPERATOR)
    assert requests.OPERATOR == send_requests.OPERATOR


async def test_what_an_ae_title_asked_for_is_no_secret_of_an_address_that_is_spelt_alike() -> None:
    ward = Ward()
    await ward.ask(1, origin="dimse", requester="10.0.0.5")
    with pytest.raises(UnknownCommitment):
        await ward.commitments.state(UID, "10.0.0.5")


async def test_a_transaction_uid_is_one_for_both_protocols_and_for_good() -> None:
    ward = Ward()
    await ward.ask_by_dimse(1)
    with pytest.raises(UidInUse):
        await ward.ask(1)
    await ward.after(1)
    with pytest.raises(UidInUse):
        await ward.ask(1)


async def test_a_result_is_kept_then_gone_then_forgotten() -> None:
    ward = Ward(result_ttl_s=DAY, tombstone_ttl_s=DAY)
    await ward.ask(1)
    await ward.after(1)
    await ward.clock.advance(DAY - 2)
    assert await ward.reasons() == [0x0112]
    await ward.clock.advance(2)
    with pytest.raises(Gone):
        await ward.commitments.state(UID, "10.0.0.5")
    assert await expiry.forget_old(cast(Journal, ward.journal), ward.config, now=ward.clock.now()) == 0
    await ward.clock.advance(DAY + 1)
    assert await expiry.forget_old(cast(Journal, ward.journal), ward.config, now=ward.clock.now()) == 1
    with pytest.raises(UnknownCommitment):
        await ward.commitments.state(UID, "10.0.0.5")
    await ward.ask(1)


async def test_what_is_still_to_be_reported_is_never_forgotten() -> None:
    ward = Ward(result_ttl_s=1.0, tombstone_ttl_s=1.0)
    ward.requester = Requester(*[Transient("away")] * 99)
    await ward.ask_by_dimse(1)
    await ward.after(1)
    await ward.clock.advance(DAY)
    assert await expiry.forget_old(cast(Journal, ward.journal), ward.config, now=ward.clock.now()) == 0


async def test_wait_ends_when_the_request_is_ready_or_time_is_up() -> None:
    ward = Ward()
    await ward.ask(1)
    assert not (await ward.commitments.wait(UID, 0)).finished
    await ward.deciding.look()
    assert (await ward.commitments.wait(UID, 30)).finished


# --- what we commit to ---------------------------------------------------------------------------------------------


async def test_stored_means_here_whole_and_of_that_class() -> None:
    ward = Ward()
    add_instances(ward.journal.conn, 2)
    ward.disk.damaged.add("1/21.2.3.4.dcm")
    await ward.ask(1, 2, 3)
    await ward.ask(1, sop_class=MR, uid=Uid("1.2.4"))
    await ward.after(0)
    assert await ward.reasons() == [None, 0x0110, 0x0112]
    assert await ward.reasons(Uid("1.2.4")) == [0x0119]


async def test_an_instance_of_another_study_than_was_said_is_not_there() -> None:
    ward = Ward()
    add_instances(ward.journal.conn, 2)
    right = Reference(CT, Uid("1.2.9.1"), Uid("1.2.3"), Uid("1.2.3.4"))
    wrong = Reference(CT, Uid("1.2.9.2"), Uid("1.2.99"), Uid("1.2.3.4"))
    await ward.commitments.submit(transaction_uid=UID, origin="web", requester="x", references=[right, wrong])
    await ward.after(0)
    assert await ward.reasons() == [None, 0x0112]


async def test_the_newest_version_is_what_counts() -> None:
    ward = Ward()
    add_instances(ward.journal.conn, 1)
    add_instances(ward.journal.conn, 1, content=b"new")
    await ward.ask(1)
    await ward.after(0)
    assert await ward.reasons() == [None]
    assert ward.disk.read == ["1/16e65771.2.3.4.dcm"]


async def test_a_large_request_is_ruled_on_page_by_page() -> None:
    ward = Ward()
    add_instances(ward.journal.conn, PAGE + 5)
    await ward.ask(*range(1, PAGE + 7))
    await ward.deciding.look()
    assert await ward.reasons() is None
    await ward.deciding.look()
    assert await ward.reasons() == [None] * (PAGE + 5) + [0x0112]


async def test_delivered_waits_for_every_destination_of_its_rules() -> None:
    ward = Ward("delivered")
    add_instances(ward.journal.conn, 2, destinations=("archive", "cloud"))
    add_instances(ward.journal.conn, 1, first=3, destinations=())
    await ward.ask(1, 2, 3)
    await ward.after(0)
    assert (ward.shown().open, ward.shown().committed) == (2, 1), "what no rule sends anywhere is as good as delivered"
    ward.end("completed", "archive", 1, 2)
    await ward.after(10)
    assert ward.shown().open == 2
    ward.end("warning", "cloud", 1, 2)
    await ward.after(10)
    assert await ward.reasons() == [None, None, None]


async def test_delivered_fails_at_once_for_what_is_parked() -> None:
    ward = Ward("delivered")
    add_instances(ward.journal.conn, 1, destinations=("archive", "cloud"))
    ward.end("failed", "archive", 1)
    await ward.ask(1)
    await ward.after(0)
    assert await ward.reasons() == [0x0110]


async def test_delivered_waits_for_a_study_that_is_not_quiet_yet() -> None:
    ward = Ward("delivered")
    add_instances(ward.journal.conn, 1, destinations=())
    study = ward.journal.rows("SELECT id FROM study")[0][0]
    ward.journal.rows(
        "INSERT INTO quiet_unit (rule, level, unit_id, destinations, matched, vetoed, due_at)"
        " VALUES ('r', 'study', ?, '[\"archive\"]', 1, 0, ?)",
        *(study, NOON + 60),
    )
    await ward.ask(1)
    await ward.after(0)
    assert await ward.reasons() is None
    ward.journal.rows("UPDATE quiet_unit SET waiting = 0")
    await ward.after(60)
    assert await ward.reasons() == [None]


async def test_what_is_not_delivered_in_time_has_failed() -> None:
    ward = Ward("delivered", decide_s=HOUR)
    add_instances(ward.journal.conn, 2)
    ward.end("completed", "archive", 1)
    await ward.ask(1, 2)
    await ward.after(0)
    await ward.after(HOUR)
    assert await ward.reasons() == [None, 0x0110]


async def test_committed_asks_the_destinations_that_do_not_confirm() -> None:
    ward = Ward("committed")
    ward.askers["destinations.archive"] = archive = Upstream("all")
    add_instances(ward.journal.conn, 2, destinations=("archive", "vault"))
    ward.end("completed", "archive", 1, 2)
    await ward.ask(1, 2)
    await ward.after(0)
    assert (await ward.reasons(), archive.asked) == (None, []), "vault confirms before it counts as delivered"
    ward.end("completed", "vault", 1, 2)
    await ward.after(60)
    assert await ward.reasons() == [None, None]
    assert len(archive.asked) == 1
    assert archive.asked != [UID]


async def test_committed_takes_over_why_a_destination_does_not() -> None:
    ward = Ward("committed")
    ward.askers["destinations.archive"] = Upstream([Ruling(Reference(CT, Uid("1.2.9.1")), 0x0213)])
    add_instances(ward.journal.conn, 2)
    ward.end("completed", "archive", 1, 2)
    await ward.ask(1, 2)
    await ward.after(0)
    assert await ward.reasons() == [0x0213, 0x0110], "what an answer leaves out has failed"


async def test_committed_fails_where_nobody_can_be_asked() -> None:
    ward = Ward("committed")
    add_instances(ward.journal.conn, 1, destinations=("relay",))
    ward.end("completed", "relay", 1)
    await ward.ask(1)
    await ward.after(0)
    assert await ward.reasons() == [0x0110]


# --- whom we ask ---------------------------------------------------------------------------------------------------


async def test_a_proxied_request_is_asked_under_its_own_uid_and_followed() -> None:
    ward = Ward()
    ward.askers["proxies.web"] = upstream = Upstream(None, None, "all")
    await ward.ask(1, 2, proxy="web")
    await ward.after(0)
    assert upstream.asked == [UID]
    await ward.after(10)
    assert await ward.reasons() is None
    await ward.after(10)
    assert await ward.reasons() == [None, None]
    assert (upstream.asked, upstream.checked) == ([UID], [UID, UID])


async def test_an_upstream_that_is_away_is_asked_again_under_the_same_uid() -> None:
    ward = Ward()
    ward.askers["proxies.web"] = upstream = Upstream(Transient("cannot connect"), Misconfigured("HTTP 403"), "all")
    await ward.ask(1, proxy="web")
    await ward.after(0)
    assert (ward.shown().waits_for, ward.shown().problem) == ("proxies.web", "cannot connect")
    await ward.after(10)
    assert ward.shown().problem == "HTTP 403"
    await ward.after(60)
    assert upstream.asked == [UID] * 3
    assert await ward.reasons() == [None]


async def test_an_upstream_that_forgot_is_asked_anew_under_another_uid() -> None:
    ward = Ward()
    ward.askers["proxies.web"] = upstream = Upstream(None, Forgotten(), "all")
    await ward.ask(1, proxy="web")
    for _ in range(3):
        await ward.after(10)
    assert await ward.reasons() == [None]
    assert upstream.asked[0] == UID != upstream.asked[1]


async def test_an_upstream_that_says_nothing_for_long_is_asked_once_more_and_any_answer_counts() -> None:
    ward = Ward()
    ward.askers["proxies.pacs"] = upstream = Upstream()
    await ward.ask(1, proxy="pacs")
    await ward.after(0)
    await ward.after(AGAIN_FIRST_S)
    assert len(set(upstream.asked)) == 2
    assert await ward.commitments.reported("PACS", UID, [Ruling(Reference(CT, Uid("1.2.9.1")))])
    assert await ward.reasons() == [None]
    assert await ward.commitments.reported("PACS", upstream.asked[1], []), "late, and known"
    assert await ward.reasons() == [None]


async def test_a_large_request_to_a_pacs_is_asked_in_parts() -> None:
    ward = Ward()
    ward.askers["proxies.pacs"] = upstream = Upstream("all", "all")
    await ward.ask(*range(requests.DIMSE_AT_ONCE + 1), proxy="pacs")
    await ward.after(0)
    assert UID in upstream.asked
    assert len(set(upstream.asked)) == 2
    assert await ward.reasons() == [None] * (requests.DIMSE_AT_ONCE + 1)


async def test_an_upstream_that_never_answers_fails_the_request_in_the_end() -> None:
    ward = Ward(decide_s=HOUR)
    ward.askers["proxies.pacs"] = Upstream()
    await ward.ask_by_dimse(1, 2, proxy="pacs")
    await ward.after(0)
    await ward.after(HOUR)
    assert await ward.reasons() == [0x0110, 0x0110]
    assert ward.requester.reports[0][1] == [0x0110, 0x0110]


async def test_a_report_counts_only_from_the_upstream_when_its_uid_is_a_requesters_choice() -> None:
    ward = Ward()
    ward.askers["proxies.pacs"] = Upstream()
    await ward.ask(1, proxy="pacs")
    await ward.after(0)
    rulings = [Ruling(Reference(CT, Uid("1.2.9.1")))]
    assert not await ward.commitments.reported("SOMEBODY", UID, rulings)
    assert not await ward.commitments.reported("PACS", Uid("1.2.3"), rulings)
    assert await ward.reasons() is None


async def test_what_a_crash_left_asked_but_not_noted_is_asked_again() -> None:
    ward = Ward()
    ward.askers["proxies.web"] = upstream = Upstream(RuntimeError("kill -9"), "all")
    await ward.ask(1, proxy="web")
    await ward.after(0)
    await ward.after(10)
    assert upstream.asked == [UID, UID]
    assert await ward.reasons() == [None]


# --- who hears of it -----------------------------------------------------------------------------------------------


async def test_a_requester_that_is_away_is_told_when_it_is_back() -> None:
    ward = Ward()
    ward.requester = Requester(Transient("cannot connect"), Misconfigured("no destination has the AE title MODALITY"))
    await ward.ask_by_dimse(1)
    await ward.after(0)
    assert (ward.shown().problem, ward.shown().report_tries) == ("cannot connect", 1)
    await ward.after(9)
    assert ward.shown().report_tries == 1
    await ward.after(1)
    assert "MODALITY" in ward.shown().problem
    await ward.after(20)
    ((report, reasons),) = ward.requester.reports
    assert (report.requester, report.called_aet, reasons) == ("MODALITY", "SENDRS", [0x0112])
    assert (ward.shown().reported_at, ward.shown().report_due_at, ward.shown().problem) == (NOON + 30, None, "")
    await ward.after(DAY)
    assert len(ward.requester.reports) == 1


async def test_a_requester_that_never_comes_back_is_given_up_and_shown() -> None:
    ward = Ward(report_s=HOUR)
    ward.requester = Requester(*[Transient("away")] * 99)
    await ward.ask_by_dimse(1)
    await ward.after(0)
    await ward.after(HOUR)
    assert (ward.shown().report_due_at, ward.shown().reported_at) == (None, None)
    assert "not reported within" in ward.shown().problem


async def test_a_requester_that_refuses_a_report_is_not_asked_twice() -> None:
    ward = Ward()
    ward.requester = Requester(Refused(0x0112, "what?"))
    await ward.ask_by_dimse(1)
    await ward.after(0)
    await ward.after(DAY)
    assert ward.requester.reports == []
    assert "0112H what?" in ward.shown().problem


async def test_the_association_of_the_request_comes_first() -> None:
    ward = Ward()
    own = Requester()
    with ward.reporting.held(UID):
        await ward.ask_by_dimse(1)
        await ward.after(0)
        assert ward.requester.reports == []
        assert await ward.reporting.bring_by(UID, own.take)
    await ward.after(DAY)
    assert (len(own.reports), ward.requester.reports) == (1, [])


async def test_what_the_association_of_the_request_could_not_carry_goes_on_another() -> None:
    ward = Ward()
    with ward.reporting.held(UID):
        await ward.ask_by_dimse(1)
        await ward.after(0)
        assert not await ward.reporting.bring_by(UID, Requester(Transient("gone")).take)
    await ward.after(10)
    assert len(ward.requester.reports) == 1


async def test_after_a_start_everything_is_looked_at_soon_whatever_the_clock_said() -> None:
    ward = Ward("delivered")
    ward.requester = Requester(Transient("away"))
    ward.askers["proxies.pacs"] = upstream = Upstream(None, Transient("away"), None)
    add_instances(ward.journal.conn, 1)
    await ward.ask(1)
    await ward.ask(1, uid=Uid("1.2.4"), proxy="pacs")
    await ward.ask_by_dimse(2, uid=Uid("1.2.5"))
    await ward.after(0)
    ward.journal.rows("UPDATE commitment_request SET due_at = due_at + 1e9, report_due_at = report_due_at + 1e9")
    ward.journal.rows("UPDATE commitment_question SET due_at = due_at + 1e9, again_at = again_at + 1e9")
    resume = partial(commitments.resume, now=ward.clock.now(), longest_wait_s=DAY)
    await ward.journal.write(resume)
    ward.end("completed", "archive", 1)
    await ward.after(0)
    assert await ward.reasons() == [None]
    assert len(ward.requester.reports) == 1
    await ward.after(DAY)
    assert len(upstream.asked) == 2


async def test_a_web_request_is_not_reported() -> None:
    ward = Ward()
    await ward.ask(1)
    await ward.after(0)
    assert ward.requester.reports == []
    assert ward.shown().report_due_at is None
