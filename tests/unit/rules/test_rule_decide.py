"""What becomes of one instance: order, final, votes, doubt, and the explanation of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from router.dicom.envelope import Source
from router.dicom.header import Flaw, Header, HeaderScanner
from router.dicom.uids import AETitle, Uid
from router.rules import Decision, Route, RuleBook, UnitVote, explain

Book = Callable[[str], RuleBook]
MakeHeader = Callable[..., Header]

CT1 = Source("C-STORE", "10.1.2.3", AETitle("CT1"), AETitle("SENDRS"))

EVERYTHING = '[[rule]]\nname = "everything"\nsend = ["archive"]\n'


def test_no_rule_means_unrouted(book: Book, header: MakeHeader) -> None:
    assert book("").decide(CT1, header()) == Decision()


def test_all_rules_that_match_fire_and_each_destination_is_served_once_by_the_first(
    book: Book, header: MakeHeader
) -> None:
    rules = book("""
[[rule]]
name = "first"
match = { Modality = "CT" }
send = ["ai", "archive"]
[[rule]]
name = "second"
send = ["archive", "cloud"]
[[rule]]
name = "third"
match = { Modality = "MR" }
send = ["cloud"]
""")
    routes = (Route("first", "ai"), Route("first", "archive"), Route("second", "cloud"))
    assert rules.decide(CT1, header(Modality="CT")) == Decision(routes)


def test_final_stops_only_when_its_rule_fires(book: Book, header: MakeHeader) -> None:
    rules = book(
        '[[rule]]\nname = "research"\nmatch = { StudyDescription = "*RESEARCH*" }\nunless = { Modality = "SR" }\n'
        'send = ["ai"]\nfinal = true\n' + EVERYTHING
    )
    assert rules.decide(CT1, header(StudyDescription="RESEARCH")).routes == (Route("research", "ai"),)
    assert rules.decide(CT1, header(StudyDescription="HEAD")).routes == (Route("everything", "archive"),)
    vetoed = header(StudyDescription="RESEARCH", Modality="SR")
    assert rules.decide(CT1, vetoed).routes == (Route("everything", "archive"),)


STUDY = """
[[rule]]
name = "study"
when = "study"
from = { calling_aet = "CT*" }
match = { Modality = "CT" }
unless = { StudyDescription = "*RESEARCH*" }
send = ["ai", "archive"]
"""


@pytest.mark.parametrize(
    ("values", "matched", "vetoed"),
    [
        ({"Modality": "CT"}, True, False),
        ({"Modality": "CT", "StudyDescription": "RESEARCH"}, True, True),
        ({"Modality": "SR", "StudyDescription": "RESEARCH"}, False, True),
    ],
)
def test_a_study_rule_votes_and_routes_nothing_by_itself(
    book: Book, header: MakeHeader, values: dict[str, str], matched: bool, vetoed: bool
) -> None:
    vote = UnitVote("study", "study", ("ai", "archive"), matched=matched, vetoed=vetoed)
    assert book(STUDY).decide(CT1, header(**values)) == Decision((), (vote,))


def test_a_study_rule_that_is_neither_met_nor_objected_to_casts_no_vote(book: Book, header: MakeHeader) -> None:
    assert book(STUDY).decide(CT1, header(Modality="SR")) == Decision()


def test_a_sender_that_from_excludes_never_votes_not_even_against(book: Book, header: MakeHeader) -> None:
    stranger = Source("C-STORE", "10.1.2.3", AETitle("MR1"))
    assert book(STUDY).decide(stranger, header(Modality="CT", StudyDescription="RESEARCH")) == Decision()


def test_a_series_rule_votes_for_its_series(book: Book, header: MakeHeader) -> None:
    (vote,) = book(STUDY.replace('when = "study"', 'when = "series"')).decide(CT1, header(Modality="CT")).votes
    assert vote.level == "series"


def test_final_on_a_study_rule_stops_for_the_instances_that_match_it(book: Book, header: MakeHeader) -> None:
    rules = book(STUDY + "final = true\n" + EVERYTHING)
    assert rules.decide(CT1, header(Modality="CT")).routes == ()
    assert len(rules.decide(CT1, header(Modality="SR")).routes) == 1
    assert len(rules.decide(CT1, header(Modality="CT", StudyDescription="RESEARCH")).routes) == 1


GARBAGE = b"RES\xff\xfeARCH \x1b$B\x80\x81 \x1b(J\xff"


@pytest.mark.parametrize(
    "charset",
    ["\\".join(["ISO 2022 IR 87"] * 200), "ISO_IR 999", "\\ISO 2022 IR 87\\ISO 2022 IR 149", "ISO_IR 192", "\x0e\x0f"],
)
def test_b37_text_that_its_character_set_cannot_read_makes_no_rule_fire(
    book: Book, header: MakeHeader, charset: str
) -> None:
    garbled = header(SpecificCharacterSet=charset, StudyDescription=GARBAGE, Modality="CT")
    for asked in ('match = { StudyDescription = "RESEARCH" }', 'unless = { StudyDescription = "*RESEARCH*" }'):
        rules = book(f'[[rule]]\nname = "careful"\n{asked}\nsend = ["ai"]\n' + EVERYTHING)
        decision = rules.decide(CT1, garbled)
        assert decision.routes == (Route("everything", "archive"),)
        assert 'rule "careful": StudyDescription could not be read' in decision.problem
        assert "ARCH" not in decision.problem


def test_b37_an_unsure_unless_of_a_study_rule_counts_as_an_objection(book: Book, header: MakeHeader) -> None:
    garbled = header(SpecificCharacterSet="ISO_IR 192", StudyDescription=GARBAGE, Modality="CT")
    decision = book(STUDY).decide(CT1, garbled)
    assert decision.votes == (UnitVote("study", "study", ("ai", "archive"), matched=True, vetoed=True),)
    assert decision.problem


def test_b37_one_readable_no_is_enough_to_be_sure(book: Book, header: MakeHeader) -> None:
    garbled = header(SpecificCharacterSet="ISO_IR 192", StudyDescription=GARBAGE, Modality="CT")
    rules = book(
        '[[rule]]\nname = "r"\nunless = { Modality = "SR", StudyDescription = "*RESEARCH*" }\nsend = ["archive"]'
    )
    assert rules.decide(CT1, garbled) == Decision((Route("r", "archive"),))


def test_b37_not_does_not_hold_for_what_could_not_be_read(book: Book, header: MakeHeader) -> None:
    garbled = header(SpecificCharacterSet="ISO_IR 192", StudyDescription=GARBAGE)
    rules = book('[[rule]]\nname = "r"\nmatch = { StudyDescription = { not = "RESEARCH" } }\nsend = ["archive"]')
    decision = rules.decide(CT1, garbled)
    assert decision.routes == ()
    assert decision.problem == 'rule "r": StudyDescription could not be read'


def test_b37_a_name_in_an_item_is_doubted_too(book: Book, header: MakeHeader) -> None:
    garbled = header(SpecificCharacterSet="ISO_IR 192", RequestAttributesSequence=[{"RequestedProcedureID": b"A\xff"}])
    rules = book(
        '[[rule]]\nname = "r"\nunless = { RequestAttributesSequence.RequestedProcedureID = "AB" }\nsend = ["archive"]'
    )
    assert rules.decide(CT1, garbled).routes == ()


@pytest.mark.parametrize(
    "asked",
    [
        'match = { StudyDescription = "X" }',
        "match = { StudyDescription = { present = false } }",
        'match = { StudyDescription = { not = "X" } }',
        'unless = { StudyDescription = "X" }',
        "match = { RequestAttributesSequence = { present = true } }",
    ],
)
def test_b34_an_attribute_beyond_where_the_scan_stopped_makes_no_rule_fire(
    book: Book, header: MakeHeader, asked: str
) -> None:
    rules = book(f'[[rule]]\nname = "r"\n{asked}\nsend = ["archive"]')
    decision = rules.decide(CT1, header(flaw=Flaw.INFLATION, Modality="CT"))
    assert decision.routes == ()
    assert "could not be read" in decision.problem


def test_b33_what_was_found_before_the_scan_stopped_is_routed_by(book: Book, header: MakeHeader) -> None:
    rules = book('[[rule]]\nname = "r"\nmatch = { Modality = "CT" }\nsend = ["archive"]')
    assert rules.decide(CT1, header(flaw=Flaw.ELEMENTS, Modality="CT")) == Decision((Route("r", "archive"),))


def test_a_flaw_that_hides_nothing_raises_no_doubt(book: Book, header: MakeHeader) -> None:
    rules = book('[[rule]]\nname = "r"\nunless = { StudyDescription = "X" }\nsend = ["archive"]')
    assert rules.decide(CT1, header(flaw=Flaw.ODD_LENGTH)) == Decision((Route("r", "archive"),))


def test_b38_a_value_that_was_cut_is_not_compared(book: Book, header: MakeHeader) -> None:
    rules = book('[[rule]]\nname = "r"\nmatch = { StudyDescription = "*A" }\nsend = ["archive"]')
    cut = header(flaw=Flaw.VALUE_TRUNCATED, truncated="StudyDescription", StudyDescription="A" * 65_536)
    assert rules.decide(CT1, cut).routes == ()


def test_b38_hostile_text_of_a_megabyte_is_only_text_and_is_never_repeated(book: Book) -> None:
    rules = book(
        """
[[rule]]
name = "a"
match = { PatientName = "*${jndi:*", StudyDescription = { regex = "evil" } }
unless = { PatientName = "doe^*", StudyDescription = { not = "*" , present = false } }
send = ["archive"]
""".replace('{ not = "*" , present = false }', '{ not = "evil" }')
    )
    evil = ("\x1b]0;evil\x07${jndi:ldap://x}\r\n\u202e%s{0}" * 30_000).encode()[: 1024 * 1024]
    data = b"".join(
        tag + vr + b"\0\0" + len(value).to_bytes(4, "little") + value
        for tag, vr, value in (
            (b"\x08\x00\x05\x00", b"UT", b"ISO_IR 192"),
            (b"\x08\x00\x30\x10", b"UT", evil),
            (b"\x10\x00\x10\x00", b"UT", evil),
        )
    )
    scanner = HeaderScanner(Uid("1.2.840.10008.1.2.1"), rules.wanted)
    scanner.feed(data)
    scanned = scanner.finish()
    decision = rules.decide(CT1, scanned)
    told = decision.problem + "".join(map(str, explain(rules, CT1, scanned)))
    assert decision.routes == ()
    assert all(sign not in told for sign in ("\x1b", "\r", "\n", "\u202e", "ldap"))


class FaultyTest:
    def matches(self, header: Header) -> bool:
        raise ZeroDivisionError("patient data")


def test_a_fault_in_one_rule_is_told_without_values_and_stops_no_other(book: Book, header: MakeHeader) -> None:
    rules = book('[[rule]]\nname = "faulty"\nmatch = { Modality = "CT" }\nsend = ["ai"]\n' + EVERYTHING)
    object.__setattr__(rules.rules[0].match[0], "test", FaultyTest())
    decision = rules.decide(CT1, header(Modality="CT"))
    assert decision.routes == (Route("everything", "archive"),)
    assert decision.problem == 'rule "faulty" failed (ZeroDivisionError)'


def test_a_problem_names_three_rules_and_counts_the_rest(book: Book, header: MakeHeader) -> None:
    rule = '[[rule]]\nname = "r{0}"\nmatch = {{ StudyDescription = "{0}" }}\nsend = ["archive"]\n'
    rules = book("".join(map(rule.format, range(50))))
    problem = rules.decide(CT1, header(SpecificCharacterSet="ISO_IR 192", StudyDescription=b"\xff")).problem
    assert problem.endswith('rule "r2": StudyDescription could not be read; and 47 more')


def test_two_senders_are_told_apart_though_rules_are_remembered_for_each(book: Book, header: MakeHeader) -> None:
    rules = book(EVERYTHING + 'from = { calling_aet = "CT1" }')
    other = Source("C-STORE", "10.1.2.3", AETitle("MR1"))
    for _ in range(2):
        assert rules.decide(CT1, header()).routes
        assert not rules.decide(other, header()).routes


def test_explain_says_for_each_rule_what_it_did_and_which_condition_failed(book: Book, header: MakeHeader) -> None:
    rules = book("""
[[rule]]
name = "stranger"
from = { address = "192.168.0.0/16" }
send = ["ai"]
[[rule]]
name = "thin"
match = { Modality = "CT", SliceThickness = { max = 1.5 }, BodyPartExamined = ["CHEST", "HEAD"] }
send = ["ai"]
[[rule]]
name = "objecting"
unless = { StudyDescription = "*SECRET*" }
send = ["ai"]
[[rule]]
name = "study"
when = "study"
send = ["ai"]
[[rule]]
name = "vetoed"
when = "series"
unless = { Modality = "CT" }
send = ["ai"]
[[rule]]
name = "first"
send = ["archive"]
[[rule]]
name = "last"
final = true
send = ["archive", "cloud"]
[[rule]]
name = "late"
send = ["ai"]
""")
    secret = header(Modality="CT", SliceThickness="3.75", StudyDescription="TOP SECRET DOE", BodyPartExamined="CHEST")
    explanations = explain(rules, CT1, secret)
    told = [(one.rule, one.outcome, one.destinations, one.reasons) for one in explanations]
    assert told == [
        ("stranger", "did not fire", (), ("from.address does not fit the sender",)),
        ("thin", "did not fire", (), ("match SliceThickness = { max = 1.5 } does not hold",)),
        ("objecting", "did not fire", (), ('unless StudyDescription = "*SECRET*" holds',)),
        ("study", "voted", ("ai",), ()),
        ("vetoed", "vetoed", (), ('unless Modality = "CT" holds',)),
        ("first", "fired", ("archive",), ()),
        ("last", "fired", ("cloud",), ("archive is served by an earlier rule",)),
        ("late", "not reached", (), ('rule "last" before it is final',)),
    ]
    assert str(explanations[6]) == 'rule "last": fired → cloud: archive is served by an earlier rule'
    assert not any("3.75" in str(one) or "DOE" in str(one) for one in explanations)


def test_explain_names_what_could_not_be_read(book: Book, header: MakeHeader) -> None:
    rules = book('[[rule]]\nname = "r"\nmatch = { StudyDescription = "X" }\nsend = ["ai"]')
    (said,) = explain(rules, CT1, header(SpecificCharacterSet="ISO_IR 192", StudyDescription=b"\xff"))
    assert said.reasons == ('match StudyDescription = "X" is unsure: StudyDescription could not be read',)


def test_explain_shows_no_control_character_of_a_rule_file(book: Book, header: MakeHeader) -> None:
    rules = book('[[rule]]\nname = "r"\nmatch = { StudyDescription = "\\u001b]0;x" }\nsend = ["ai"]')
    (said,) = explain(rules, CT1, header())
    assert str(said).isprintable()


def test_a_real_file_is_decided_by_its_header(book: Book, scan_file: Callable[[str, Any], Header]) -> None:
    rules = book(
        """
[[rule]]
name = "ct"
match = { Modality = "CT", Manufacturer = "GE *", KVP = { min = 100 }, StudyDate = "2004", Rows = 128 }
send = ["ai"]
[[rule]]
name = "other ids"
match = { OtherPatientIDsSequence.PatientID = "ABCD1234", OtherPatientIDsSequence.TypeOfPatientID = "TEXT" }
send = ["archive"]
[[rule]]
name = "has ids"
match = { OtherPatientIDsSequence = { present = true }, PixelData = { present = true } }
send = ["cloud"]
""".replace('"2004"', '"20040101-20041231"')
    )
    for name, expected in (("CT_small.dcm", {"ai", "archive", "cloud"}), ("MR_small_bigendian.dcm", set())):
        decision = rules.decide(CT1, scan_file(name, rules.wanted))
        assert {route.destination for route in decision.routes} == expected
        assert decision.problem == ""
