"""Every code has a meaning, and the meaning is the one of reliability-study D12 (F40)."""

from __future__ import annotations

import pytest

from router.dicom.status import (
    Verdict,
    association_reject,
    context_refused,
    failure_reason,
    http_status,
    store_status,
    warning_reason,
)

D12 = {
    Verdict.COMPLETED: [0x0000],
    Verdict.WARNING: [0xB000, 0xB006, 0xB007, 0x0107, 0x0116, 0x0111],
    Verdict.DESTINATION: [*range(0xA700, 0xA800), 0x0213],
    Verdict.INSTANCE: [*range(0xA900, 0xAA00), *range(0xC000, 0xD000), 0x0110, 0x0117],
    Verdict.NEVER: [0x0122, 0x0118],
    Verdict.MISCONFIGURED: [0x0124],
}


@pytest.mark.parametrize("verdict", D12)
def test_f40_every_code_that_d12_names_means_what_d12_says(verdict: Verdict) -> None:
    assert {store_status(code).verdict for code in D12[verdict]} == {verdict}


def test_f40_every_other_code_is_uncertain_or_a_warning_and_none_is_a_success() -> None:
    named = {code for codes in D12.values() for code in codes}
    for code in range(0x10000):
        if code in named:
            continue
        expected = Verdict.WARNING if code == 0x0001 or 0xB000 <= code <= 0xBFFF else Verdict.UNCERTAIN
        assert store_status(code).verdict is expected, f"{code:04X}H"
        assert store_status(code).words


@pytest.mark.parametrize("code", [0xFFFF, 0xFF00, 0xFE00, 0x0211, 0xA800, 0xD000])
def test_f40_a_code_nobody_knows_is_never_taken_for_stored(code: int) -> None:
    assert store_status(code).verdict is Verdict.UNCERTAIN


def test_a_failure_reason_is_never_a_plain_success() -> None:
    verdicts = {code: failure_reason(code).verdict for code in range(0x10000)}
    assert Verdict.COMPLETED not in verdicts.values()
    assert {code for code, verdict in verdicts.items() if verdict is Verdict.WARNING} == {0x0111, 0xB00E}
    assert verdicts[0xC122] is Verdict.NEVER
    assert verdicts[0x0110] is Verdict.INSTANCE
    assert verdicts[0xA700] is Verdict.DESTINATION
    assert verdicts[0x0124] is Verdict.MISCONFIGURED


def test_a_warning_reason_always_means_stored() -> None:
    assert {warning_reason(code).verdict for code in range(0x10000)} == {Verdict.WARNING}


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ([408, 429, 500, 502, 503, 504, 507], Verdict.DESTINATION),
        ([400, 409, 422], Verdict.INSTANCE),
        ([413, 415], Verdict.NEVER),
        ([401, 403, 404, 301, 302, 307, 308], Verdict.MISCONFIGURED),
        ([200, 202, 204, 102, 418, 0, 999], Verdict.UNCERTAIN),
    ],
)
def test_http_statuses_mean_what_d12_says(statuses: list[int], verdict: Verdict) -> None:
    assert {http_status(status).verdict for status in statuses} == {verdict}


def test_no_http_status_alone_is_a_success() -> None:
    assert not {Verdict.COMPLETED, Verdict.WARNING} & {http_status(status).verdict for status in range(1000)}


@pytest.mark.parametrize(
    ("rejection", "verdict", "words"),
    [
        ((1, 1, 3), Verdict.MISCONFIGURED, "calling AE title not recognised"),
        ((1, 1, 7), Verdict.MISCONFIGURED, "called AE title not recognised"),
        ((1, 2, 1), Verdict.MISCONFIGURED, "user identity"),
        ((2, 3, 1), Verdict.DESTINATION, "temporary congestion"),
        ((2, 3, 2), Verdict.DESTINATION, "local limit exceeded"),
        ((1, 3, 2), Verdict.DESTINATION, "local limit exceeded"),
        ((2, 1, 7), Verdict.DESTINATION, "for now"),
        ((9, 9, 9), Verdict.DESTINATION, "source 9 reason 9"),
    ],
)
def test_f46_rejections_are_for_now_unless_they_say_permanent(
    rejection: tuple[int, int, int], verdict: Verdict, words: str
) -> None:
    meaning = association_reject(*rejection)
    assert meaning.verdict is verdict
    assert words in meaning.words


def test_a_refused_context_can_never_work() -> None:
    assert {context_refused(result).verdict for result in range(256)} == {Verdict.NEVER}
