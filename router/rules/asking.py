"""From a `match` or `unless` table to conditions: the values, lists and inline tables of the rule language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from router.config.locate import nearest
from router.dicom.attributes import MAX_PATH_DEPTH, AttributePath, UnknownAttribute, attribute_path, path_name, vr_of
from router.dicom.encoding import BULK_VRS
from router.rules.comparing import bounds_test, regex_test, value_test
from router.rules.conditions import AllOf, Condition, HasItems, HasValue, InOneItem, IsThere, Not, Test
from router.rules.findings import Findings, Place

OPERATORS = ("min", "max", "regex", "present", "not")

_ASKED_BY_QUERIES_ONLY = frozenset(
    {
        (0x00080052,),  # QueryRetrieveLevel
        (0x00080054,),  # RetrieveAETitle
        (0x00080056,),  # InstanceAvailability
        (0x00080061,),  # ModalitiesInStudy
        (0x00080062,),  # SOPClassesInStudy
        *((0x00201200 + element,) for element in range(0, 10, 2)),  # NumberOf…Related…
    }
)
"""PS3.4 §C.3.4: made up for answers, not part of instances."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One question about one attribute. `test` is asked of the data set or item that the last tag of `path` is in."""

    path: AttributePath
    test: Test
    says: str
    is_negated: bool = False


def read_conditions(table: Mapping[str, Any], place: Place, findings: Findings) -> tuple[Condition, ...]:
    """Compile a `match` or `unless` table; what is wrong in it goes to `findings`."""
    return tuple(_assemble(_parts_of_table(table, (), place, findings)))


def _assemble(parts: list[_Part]) -> list[Condition]:
    """Make the conditions. What is asked within one sequence becomes one: one and the same item must meet it all."""
    conditions: list[Condition] = []
    in_sequence: dict[int, list[_Part]] = {}
    for part in parts:
        if part.is_negated:
            (test,) = _item_tests([(part.path, part.test)])
            conditions.append(Condition(part.says, test, (part.path,), is_negated=True))
        elif len(part.path) == 1:
            conditions.append(Condition(part.says, part.test, (part.path,)))
        else:
            in_sequence.setdefault(part.path[0], []).append(part)
    for together in in_sequence.values():
        (test,) = _item_tests([(part.path, part.test) for part in together])
        says = " and ".join(part.says for part in together)
        conditions.append(Condition(says, test, tuple(part.path for part in together)))
    return conditions


def _item_tests(questions: list[tuple[AttributePath, Test]]) -> tuple[Test, ...]:
    tests = [test for path, test in questions if len(path) == 1]
    deeper: dict[int, list[tuple[AttributePath, Test]]] = {}
    for path, test in questions:
        if len(path) > 1:
            deeper.setdefault(path[0], []).append((path[1:], test))
    return (*tests, *(InOneItem(tag, _item_tests(inner)) for tag, inner in deeper.items()))


def _parts_of_table(table: Mapping[str, Any], outer: AttributePath, place: Place, findings: Findings) -> list[_Part]:
    parts: list[_Part] = []
    for key, value in table.items():
        here = (*place, key)
        path = _path(key, outer, here, findings)
        if path is None:
            continue
        if vr_of(path[-1]) == "SQ" or (vr_of(path[-1]) == "UN" and _asks_items(value)):
            parts += _parts_of_sequence(path, value, here, findings)
        else:
            parts += _parts_of_attribute(path, value, here, findings)
    return parts


def _path(key: str, outer: AttributePath, place: Place, findings: Findings) -> AttributePath | None:
    try:
        path = (*outer, *attribute_path(key))
    except UnknownAttribute as error:
        near = f'did you mean "{error.nearest}"?' if error.nearest else ""
        findings.error(place, error.problem, allowed="a keyword, a tag, or a path of them joined by dots", hint=near)
        return None
    if len(path) > MAX_PATH_DEPTH:
        findings.error(place, f"more than {MAX_PATH_DEPTH} levels of sequences")
        return None
    if path[0] >> 16 in (0x0000, 0x0002):
        findings.error(place, "is not in the data set, so that no rule can ask for it")
        return None
    if path in _ASKED_BY_QUERIES_ONLY:
        findings.warn(place, "is an attribute of query answers; instances hardly ever have it")
    return path


def _asks_items(value: object) -> bool:
    return isinstance(value, dict) and any(key not in OPERATORS for key in value)


def _parts_of_sequence(path: AttributePath, value: Any, place: Place, findings: Findings) -> list[_Part]:
    name = path_name(path)
    if not isinstance(value, dict) or not value:
        findings.error(
            place,
            "is a sequence: ask for an attribute in its items",
            allowed=f'"{name}.Keyword" = value, or {name} = {{ present = true }}',
        )
        return []
    inner = {key: asked for key, asked in value.items() if key != "present"}
    parts = []
    for operator in OPERATORS:
        if operator in inner:
            findings.error((*place, operator), f"cannot be asked of a sequence, only of an attribute in it: {name}")
            del inner[operator]
    if "present" in value and _is_bool(value["present"], (*place, "present"), findings):
        says = f"{name} = {_toml({'present': value['present']})}"
        parts.append(_Part(path, HasItems(path[-1]), says, is_negated=not value["present"]))
    return parts + _parts_of_table(inner, path, place, findings)


def _parts_of_attribute(path: AttributePath, value: Any, place: Place, findings: Findings) -> list[_Part]:
    name = path_name(path)
    if vr_of(path[-1]) in BULK_VRS and not (isinstance(value, dict) and set(value) == {"present"}):
        findings.error(
            place, "is bulk data, which is not looked into", allowed="{ present = true } or { present = false }"
        )
        return []
    if not isinstance(value, dict):
        test = value_test(path[-1], value, place, findings)
        return [_Part(path, test, f"{name} = {_toml(value)}")] if test else []
    return [
        _Part(path, test, f"{name} = {_toml({operator: value[operator] for operator in operators})}", is_negated)
        for operators, test, is_negated in _operator_tests(path[-1], value, place, findings)
    ]


def _operator_tests(
    tag: int, table: dict[str, Any], place: Place, findings: Findings
) -> list[tuple[tuple[str, ...], Test, bool]]:
    """Compile an inline table: for each test the operators it comes from, and whether it must not hold."""
    _check_operators(table, place, findings)
    tests: list[tuple[tuple[str, ...], Test, bool]] = []
    bounds = tuple(key for key in ("min", "max") if key in table)
    if bounds:
        test = bounds_test(tag, table.get("min"), table.get("max"), place, findings)
        tests += [(bounds, test, False)] if test else []
    if "regex" in table:
        test = regex_test(tag, table["regex"], (*place, "regex"), findings)
        tests += [(("regex",), test, False)] if test else []
    if "present" in table and _is_bool(table["present"], (*place, "present"), findings):
        test = IsThere((tag,)) if vr_of(tag) in BULK_VRS else HasValue((tag,))
        tests.append((("present",), test, not table["present"]))
    if "not" in table:
        test = _not_test(tag, table["not"], (*place, "not"), findings)
        tests += [(("not",), test, True)] if test else []
    return tests


def _check_operators(table: dict[str, Any], place: Place, findings: Findings) -> None:
    allowed = ", ".join(OPERATORS)
    if not table:
        findings.error(place, "asks for nothing", allowed=allowed)
    for key in table:
        if key not in OPERATORS:
            near = nearest(key, OPERATORS)
            findings.error(
                (*place, key), "unknown key", allowed=allowed, hint=f'did you mean "{near}"?' if near else ""
            )
    if table.get("present") is False and {"min", "max", "regex"} & set(table):
        findings.error(place, "can never match: what is not present has no value to compare")


def _not_test(tag: int, value: Any, place: Place, findings: Findings) -> Test | None:
    if not isinstance(value, dict):
        return value_test(tag, value, place, findings)
    if "not" in value:
        findings.error((*place, "not"), "not within not: ask for the thing itself")
        return None
    tests = _operator_tests(tag, value, place, findings)
    return AllOf(tuple(Not(test) if is_negated else test for _, test, is_negated in tests)) if tests else None


def _is_bool(value: Any, place: Place, findings: Findings) -> bool:
    if isinstance(value, bool):
        return True
    findings.error(place, "wrong type", allowed="true or false")
    return False


def _toml(value: Any) -> str:
    """Write a value as it may stand in the file, for people to recognise."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"' if value.isprintable() else repr(value)
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {_toml(inner)}' for key, inner in value.items())} }}"
        case _:
            return str(value)
