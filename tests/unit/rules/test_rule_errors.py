"""What the author of a rule file is told: each error names the file, the line, the rule, the key and what would do."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from router.errors import ConfigError, ConfigErrors
from router.rules import RuleBook, load_rules

Errors = Callable[[str], tuple[ConfigError, ...]]
Book = Callable[[str], RuleBook]

RULE = '[[rule]]\nname = "r"\nsend = ["archive"]\n'
OTHER = RULE.replace('"r"', '"o"')


@pytest.mark.parametrize(
    ("text", "line", "where", "told"),
    [
        # the tables and keys themselves
        ('nme = "x"\n' + RULE, 1, "nme", "unknown table or key"),
        (RULE + '[[rules]]\nname = "x"', 4, "rules", 'did you mean "[[rule]]"?'),
        ('[rule]\nname = "x"\nsend = ["ai"]', 1, "rule", "two brackets"),
        ("rule = [1]\n", 1, "rule", "list of tables"),
        (RULE + 'nam = "x"', 4, 'rule "r": nam', 'did you mean "name"?'),
        (RULE + 'mach = { Modality = "CT" }', 4, 'rule "r": mach', 'did you mean "match"?'),
        ('[[rule]]\nsend = ["ai"]', 1, "rule number 1", "has no name"),
        (RULE + '[[rule]]\nname = ""\nsend = ["ai"]', 5, "rule number 2: name", "not empty"),
        ('[[rule]]\nname = 3\nsend = ["ai"]', 2, "rule number 1: name", "wrong type"),
        ('[[rule]]\nname = "a\\u001b[0m"\nsend = ["ai"]', 2, "rule number 1: name", "control characters"),
        (f'[[rule]]\nname = "{"x" * 101}"\nsend = ["ai"]', 2, "rule number 1: name", "at most 100"),
        (RULE + 'when = "patient"', 4, 'rule "r": when', "instance, series, study"),
        (RULE + "when = 3", 4, 'rule "r": when', "instance, series, study"),
        (RULE + "when = []", 4, 'rule "r": when', "instance, series, study"),
        (RULE + 'final = "yes"', 4, 'rule "r": final', "true or false"),
        # send
        ('[[rule]]\nname = "r"', 1, 'rule "r": send', "is missing"),
        ('[[rule]]\nname = "r"\nsend = []', 3, 'rule "r": send', "is empty"),
        ('[[rule]]\nname = "r"\nsend = "ai"', 3, 'rule "r": send', "list of destination names"),
        ('[[rule]]\nname = "r"\nsend = [1]', 3, 'rule "r": send[0]', "wrong type"),
        ('[[rule]]\nname = "r"\nsend = ["ai", "ai"]', 3, 'rule "r": send[1]', "there twice"),
        # from
        (RULE + 'from = "CT1"', 4, 'rule "r": from', "a table"),
        (RULE + 'from = { caling_aet = "CT1" }', 4, 'rule "r": from.caling_aet', 'did you mean "calling_aet"?'),
        (RULE + "from = { calling_aet = 1 }", 4, 'rule "r": from.calling_aet', "text in quotes"),
        (RULE + "from = { calling_aet = [] }", 4, 'rule "r": from.calling_aet', "text in quotes"),
        (RULE + 'from = { calling_aet = "A23456789B1234567" }', 4, 'rule "r": from.calling_aet', "at most 16"),
        (RULE + 'from = { address = "10.1.2.3/16" }', 4, 'rule "r": from.address', 'did you mean "10.1.0.0/16"?'),
        (RULE + 'from = { address = "ct1.local" }', 4, 'rule "r": from.address', "an address or a network"),
        (RULE + 'from = { protocol = "stow-rs" }', 4, 'rule "r": from.protocol', 'did you mean "STOW-RS"?'),
        (RULE + 'from = { protocol = "STOW-RS", calling_aet = "CT1" }', 4, 'rule "r": from', "can never match"),
        # match and unless
        (RULE + 'match = "CT"', 4, 'rule "r": match', "a table"),
        (RULE + "unless = {}", 4, 'rule "r": unless', "holds for everything"),
        (RULE + 'match = { Modality = "" }', 4, 'rule "r": match.Modality', "matches everything"),
        (RULE + 'match = { Modality = "*" }', 4, 'rule "r": match.Modality', "{ present = true }"),
        (RULE + "match = { Modality = [] }", 4, 'rule "r": match.Modality', "the list is empty"),
        (RULE + 'match = { Modality = ["CT", {}] }', 4, 'rule "r": match.Modality[1]', "plain values only"),
        (RULE + 'match = { Modality = "CT\\\\MR" }', 4, 'rule "r": match.Modality', "write a list"),
        (RULE + "match = { Modality = true }", 4, 'rule "r": match.Modality', "true and false"),
        (RULE + "match = { PatientID = 1.5 }", 4, 'rule "r": match.PatientID', "fraction"),
        (RULE + "match = { SliceThickness = nan }", 4, 'rule "r": match.SliceThickness', "fraction"),
        (RULE + "match = { Modality = {} }", 4, 'rule "r": match.Modality', "asks for nothing"),
        (RULE + "match = { Rows = { maximum = 3 } }", 4, 'rule "r": match.Rows.maximum', 'did you mean "max"?'),
        (RULE + 'match = { Rows = { max = "3" } }', 4, 'rule "r": match.Rows.max', "a number"),
        (RULE + "match = { Rows = { max = true } }", 4, 'rule "r": match.Rows.max', "a number"),
        (RULE + "match = { Rows = { min = inf } }", 4, 'rule "r": match.Rows.min', "a number"),
        (RULE + "match = { Rows = { min = 3, max = 2 } }", 4, 'rule "r": match.Rows', "min is greater than max"),
        (RULE + "match = { Modality = { min = 3 } }", 4, 'rule "r": match.Modality', "use regex"),
        (RULE + "match = { PatientAge = { max = 18 } }", 4, 'rule "r": match.PatientAge.max', '"018Y"'),
        (RULE + 'match = { StudyDate = { max = "2024" } }', 4, 'rule "r": match.StudyDate.max', "YYYYMMDD"),
        (
            RULE + "match = { StudyDate = { min = 2025-01-01, max = 2024-01-01 } }",
            4,
            'rule "r": match.StudyDate',
            "after",
        ),
        (RULE + 'match = { StudyDate = "2024*" }', 4, 'rule "r": match.StudyDate', "ranges, not wild cards"),
        (
            RULE + "match = { StudyDate = 08:00:00 }",
            4,
            'rule "r": match.StudyDate',
            "not a value of this attribute (DA)",
        ),
        (RULE + 'match = { SeriesNumber = "1-5" }', 4, 'rule "r": match.SeriesNumber', "{ min = …, max = … }"),
        (RULE + 'match = { SOPClassUID = "CT Image" }', 4, 'rule "r": match.SOPClassUID', "1.2.840.10008.5.1.4.1.1.2"),
        (RULE + "match = { Modality = { present = 1 } }", 4, 'rule "r": match.Modality.present', "true or false"),
        (RULE + "match = { Rows = { present = false, min = 1 } }", 4, 'rule "r": match.Rows', "can never match"),
        (
            RULE + 'match = { Modality = { not = { not = "CT" } } }',
            4,
            'rule "r": match.Modality.not.not',
            "not within not",
        ),
        (RULE + "match = { PixelData = 1 }", 4, 'rule "r": match.PixelData', "bulk data"),
        (RULE + 'match = { TransferSyntaxUID = "1.2" }', 4, 'rule "r": match.TransferSyntaxUID', "not in the data set"),
        (
            RULE + "match = { RequestAttributesSequence = 1 }",
            4,
            'rule "r": match.RequestAttributesSequence',
            "sequence",
        ),
        (
            RULE + 'match = { Modality = "CT" }\nunless = { Modality = "CT" }',
            5,
            'rule "r": unless',
            "can never match",
        ),
    ],
)
def test_an_error_names_line_place_and_remedy(errors: Errors, text: str, line: int, where: str, told: str) -> None:
    (error,) = errors(text)
    assert (error.line, error.where) == (line, where)
    assert told in str(error)
    assert error.file.endswith("10-rules.toml")


def test_b94_a_name_given_twice_names_both_lines(errors: Errors) -> None:
    (error,) = errors(RULE + RULE.replace("archive", "ai"))
    assert error.line == 4
    assert "10-rules.toml:1" in error.problem


def test_b94_two_rules_that_say_the_same_name_both_lines(errors: Errors) -> None:
    asked = 'match = { Modality = "CT", Rows = { max = 3, min = 2 } }\n'
    again = 'match = { Rows = { min = 2, max = 3 }, Modality = "CT" }\n'
    (error,) = errors(RULE + asked + OTHER + again)
    assert error.line == 5
    assert 'says the same as rule "r"' in error.problem
    assert "10-rules.toml:1" in error.problem


def test_b94_a_name_given_again_in_another_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(RULE)
    (tmp_path / "b.toml").write_text("\n" + RULE.replace("archive", "ai"))
    with pytest.raises(ConfigErrors) as caught:
        load_rules(tmp_path, ["archive", "ai"])
    (error,) = caught.value.errors
    assert error.file == str(tmp_path / "b.toml")
    assert error.line == 2
    assert f"{tmp_path / 'a.toml'}:1" in error.problem


def test_b95_an_unknown_destination_names_the_nearest_and_all(errors: Errors) -> None:
    (error,) = errors('[[rule]]\nname = "r"\nsend = [\n  "ai",\n  "archiv",\n]')
    assert (error.line, error.where, error.allowed) == (5, 'rule "r": send[1]', "ai, archive, cloud")
    assert error.hint == 'did you mean "archive"?'


def test_b95_with_no_destination_at_all_it_says_where_they_are_made(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(RULE)
    with pytest.raises(ConfigErrors, match=r"router.toml has no \[destinations"):
        load_rules(tmp_path, [])


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("(a", "missing )"),
        ("(?=a)b", "does not look ahead"),
        ("(?<!a)b", "does not look ahead or behind"),
        (r"(a)\1", "no back-references"),
        ("((a{1000}){1000}){1000}", "is not a regular expression"),
        ("x" * 1001, "at most 1000"),
        ("", "wrong type"),
    ],
)
def test_b96_a_pattern_that_re2_does_not_take_is_named(errors: Errors, pattern: str, told: str) -> None:
    (error,) = errors(RULE + f"match = {{ StudyDescription = {{ regex = '{pattern}' }} }}")
    assert error.where == 'rule "r": match.StudyDescription.regex'
    assert error.line == 4
    assert told in str(error)
    assert pattern[:40] in str(error)


@pytest.mark.parametrize("asked", ['PatinetID = "1"', '"RequestAttributesSequence.PatinetID" = "1"'])
def test_b97_an_unknown_attribute_names_the_nearest(errors: Errors, asked: str) -> None:
    (error,) = errors(RULE + f"\n\nmatch = {{ {asked} }}")
    assert error.line == 6
    assert 'did you mean "PatientID"?' in str(error)


@pytest.mark.parametrize("name", ["(0008,006)", "0008,0060", "", "Modality.CodeValue", "RequestAttributesSequence."])
def test_b97_what_is_no_attribute_is_an_error(errors: Errors, name: str) -> None:
    (error,) = errors(RULE + f'match = {{ "{name}" = "1" }}')
    assert error.line == 4


def test_b97_a_path_deeper_than_anything_real_is_an_error(errors: Errors) -> None:
    deep = ".".join(["ContentSequence"] * 16)
    half = ".".join(["ContentSequence"] * 8)
    for path in (f'"{deep}.TextValue"', f'"{half}"."{half}.TextValue"'):
        (error,) = errors(RULE + f"match.{path} = 'x'")
        assert "16 levels" in str(error)


@pytest.mark.parametrize("text", ["!!python/object:os.system ['x']", "{{7*7}}", "__import__('os')", "<xml/>"])
def test_b98_what_is_not_toml_is_an_error_with_its_line(errors: Errors, text: str) -> None:
    (error,) = errors(RULE + text)
    assert error.line == 4


def test_all_errors_of_all_files_are_told_in_one_pass_in_the_order_of_lines(tmp_path: Path) -> None:
    (tmp_path / "20.toml").write_text("broken")
    (tmp_path / "10.toml").write_text(
        '[[rule]]\nname = "r"\nmatch = { Modalty = "CT" }\nunless = { Rows = "x" }\nsend = ["x"]\n'
    )
    with pytest.raises(ConfigErrors) as caught:
        load_rules(tmp_path, ["archive"])
    places = [(Path(error.file).name, error.line) for error in caught.value.errors]
    assert places == [("10.toml", 3), ("10.toml", 4), ("10.toml", 5), ("20.toml", 1)]


def test_a_missing_folder_says_what_to_create(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="mkdir -p"):
        load_rules(tmp_path / "rules", [])


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("")
    with pytest.raises(ConfigErrors, match="name the folder"):
        load_rules(tmp_path / "rules", [])


def test_an_empty_folder_is_an_empty_book_and_a_warning(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("not a rule")
    (tmp_path / "old.toml.bak").write_text("broken")
    (tmp_path / "examples.toml").mkdir()
    rules = load_rules(tmp_path, [])
    assert rules.rules == ()
    assert "unrouted" in str(rules.warnings[0])


def test_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("20.toml", "10.toml", "05.toml"):
        (tmp_path / name).write_text(f'[[rule]]\nname = "{name}"\nsend = ["archive"]\nmatch.Rows = {int(name[:2])}')
    rules = load_rules(tmp_path, ["archive"]).rules
    assert [rule.name for rule in rules] == ["05.toml", "10.toml", "20.toml"]
    assert [(Path(rule.file).name, rule.line) for rule in rules] == [(rule.name, 1) for rule in rules]


def test_a_byte_order_mark_and_windows_line_ends_are_taken(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(codecs.BOM_UTF8 + RULE.replace("\n", "\r\n").encode())
    assert len(load_rules(tmp_path, ["archive"]).rules) == 1


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (RULE.encode("utf-16"), "UTF-16"),
        (RULE.encode("utf-16-le"), "NUL"),
        (b"# ok\n# \0\n", "a.toml:2"),
        (RULE.encode() + b"# caf\xe9", "a.toml:4: is not UTF-8"),
        (b"#" * (1024 * 1024 + 1), "larger than 1 MiB"),
        (b"[[rule]]\nx = " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        (b"[[rule]]\nx" + b".a" * 5000 + b" = 1", "a.toml:2: a key has more than 128 parts"),
        (b"[[rule]]\nmatch" + b".a" * 100 + b" = 1", "nested too deeply"),
    ],
)
def test_a_file_that_is_no_text_of_rules_is_a_clear_error(tmp_path: Path, raw: bytes, told: str) -> None:
    (tmp_path / "a.toml").write_bytes(raw)
    with pytest.raises(ConfigErrors) as caught:
        load_rules(tmp_path, ["archive"])
    assert len(caught.value.errors) == 1
    assert told in str(caught.value)


def test_a_file_of_exactly_one_mebibyte_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(RULE.encode().ljust(1024 * 1024, b"#"))
    assert len(load_rules(tmp_path, ["archive"]).rules) == 1


def test_a_rule_file_that_cannot_be_read_is_an_error_never_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.toml").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "b.toml")
    with pytest.raises(ConfigErrors) as caught:
        load_rules(tmp_path, ["archive"])
    dangling, pipe = caught.value.errors
    assert "a.toml: there is no such file" in str(dangling)
    assert "b.toml: is a device or pipe, not a file" in str(pipe)


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (RULE + 'match = { Modality = "ct" }', 4, "CT"),
        (RULE + 'match = { ModalitiesInStudy = "CT" }', 4, "query answers"),
        (RULE + "match = { Rows = { regex = '5' } }", 4, "min and max"),
        (RULE + "final = true\n" + OTHER, 5, "is never reached"),
    ],
)
def test_what_is_allowed_but_seldom_meant_is_a_warning(book: Book, text: str, line: int, told: str) -> None:
    (warning,) = book(text).warnings
    assert warning.line == line
    assert told in str(warning)
