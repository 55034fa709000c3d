"""docs/conformance/requirements.md: it is what the tests say, and each requirement on us has one."""

from __future__ import annotations

import re

from make_requirements import COUNT, IMPLEMENTED, PAGE, TESTS, collect, make_page, numbers_of, read_requirements

REASONS = {"document", "later", "not_applicable"}


def test_all_158_are_listed_with_who_where_and_what() -> None:
    requirements = read_requirements()
    assert sorted(requirements) == list(range(1, COUNT + 1))
    for number, row in requirements.items():
        assert {"who", "section", "says"} <= set(row) <= {"who", "section", "says", *REASONS}, number
        assert all(text.strip() and "|" not in text for text in row.values()), number
        assert len(row["says"]) <= 140, number


def test_each_requirement_on_server_and_user_agent_has_a_test() -> None:
    requirements, tests = read_requirements(), collect()
    without = [f"REQ-{n:03}" for n in IMPLEMENTED if n not in tests and not REASONS & set(requirements[n])]
    assert without == []


def test_no_test_claims_a_requirement_that_does_not_exist() -> None:
    assert set(collect()) <= set(read_requirements())


def test_a_requirement_without_a_test_has_a_reason() -> None:
    tests = collect()
    for number, row in read_requirements().items():
        assert number in tests or number in IMPLEMENTED or REASONS & set(row), f"REQ-{number:03}"
        if "document" in row:
            assert (TESTS.parent / "docs" / row["document"]).exists(), f"REQ-{number:03}"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == make_page(read_requirements(), collect()), "run: make requirements"


def test_numbers_are_read_from_names_and_docstrings() -> None:
    assert numbers_of("test_req_016_req_009_it_works", "REQ-023 to REQ-025, REQ-007.") == {16, 9, 23, 24, 25, 7}
    assert numbers_of("test_req_016_017_104_b73_200_ok", "") == {16, 17, 104}
    assert numbers_of("test_req_023_to_025_and_one", "") == {23, 24, 25}
    assert numbers_of("test_required_1_with_http_200_in_req_20", "B73") == set()


def test_the_page_says_what_is_missing() -> None:
    row = {"who": "server", "section": "10", "says": "Something."}
    page = make_page({1: row, 2: row | {"later": "C-MOVE"}}, {1: ["unit/test_a.py::test_b"]})
    rows = [line for line in page.splitlines() if re.match(r"\| REQ-", line)]
    assert rows[0].endswith("| `unit/test_a.py::test_b` |")
    assert rows[1].endswith("| in a later release: C-MOVE |")
    assert "**nothing**" in make_page({1: row}, {})
