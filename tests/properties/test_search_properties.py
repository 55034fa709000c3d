"""The SQL search selects what the matcher selects from the same data sets, whatever is stored and whatever is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from filled_journal import new_journal
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from search_archive import CT, data_set, put, scanned, sql_matches

from router.dicom.attributes import AttributePath, attribute_path
from router.dicom.header import Header
from router.dicom.matcher import MatchOptions
from router.dicom.uids import Uid
from router.journal import search
from router.search import Asked, BadKeys, Level, Plan, Scope, plan

MODALITIES = attribute_path("ModalitiesInStudy")

DATES = ["", "20240105", "2024.01.05", "20240131", "20240201", "19991231", "2024010", "20241399", "20240105\\20240301"]
TIMES = ["", "10", "1030", "10:30:00", "103000", "235959.999999", "000000", "240000"]
TEXTS = ["", "A1", "a1", "A1\\B2", "AB", "B2", "\\A1", "\xc41", "A 1", "A\xe9"]
NUMBERS = ["", "1", "01", "+1", "2", "1\\2", "12", "-1", "x"]
NAMES = [
    "",
    "Doe^Jane",
    "DOE^JANE^^",
    "Doe ^ Jane",
    "doe",
    "M\xfcller^\xdcnal",
    "Mu\u0308ller^\xdcnal",
    "A^B\\Doe^John",
    "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce=\u3084\u307e\u3060^\u305f\u308d\u3046",
]
STUDY = {
    "PatientID": TEXTS,
    "IssuerOfPatientID": TEXTS,
    "PatientName": NAMES,
    "PatientBirthDate": DATES,
    "PatientSex": ["", "F", "M"],
    "StudyDate": DATES,
    "StudyTime": TIMES,
    "AccessionNumber": TEXTS,
    "ReferringPhysicianName": NAMES,
    "StudyID": TEXTS,
    "StudyDescription": TEXTS,
    "TimezoneOffsetFromUTC": ["", "+0100", "-0500", "+1400", "x"],
}
SERIES = {
    "Modality": ["", "CT", "MR", "CT\\MR", "ct"],
    "SeriesNumber": NUMBERS,
    "SeriesDescription": TEXTS,
    "BodyPartExamined": TEXTS,
    "PerformedProcedureStepStartDate": DATES,
    "PerformedProcedureStepStartTime": TIMES,
}
INSTANCE = {"SOPClassUID": [CT, "1.2.3"], "InstanceNumber": NUMBERS}
STEPS = ["", "S1", "S1\\S2", 'S"2', "s1"]
UIDS = [f"1.2.{n}" for n in range(1, 4)]


def some(pools: Mapping[str, Sequence[str]]) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({name: st.sampled_from(pool) for name, pool in pools.items()})


def requests() -> st.SearchStrategy[list[dict[str, str]]]:
    """Sequences whose items are not all empty; those that are, the index takes for no items."""
    item = st.fixed_dictionaries(
        {"ScheduledProcedureStepID": st.sampled_from(STEPS), "RequestedProcedureID": st.sampled_from(STEPS)}
    )
    return st.lists(item, max_size=2).map(lambda items: items if any(any(item.values()) for item in items) else [])


@st.composite
def archives(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Instances of up to three studies; what belongs to a study or series is the same in all its instances."""
    instances: list[dict[str, Any]] = []
    for study in range(draw(st.integers(1, 3))):
        of_study: dict[str, Any] = draw(some(STUDY | {"SpecificCharacterSet": ["ISO_IR 100", "ISO_IR 192"]}))
        for series in range(draw(st.integers(1, 2))):
            of_series = draw(some(SERIES)) | {"RequestAttributesSequence": draw(requests())}
            for number in range(draw(st.integers(1, 2))):
                uids = {
                    "StudyInstanceUID": UIDS[study],
                    "SeriesInstanceUID": f"{UIDS[study]}.{series}",
                    "SOPInstanceUID": f"{UIDS[study]}.{series}.{number}",
                }
                instances.append({**of_study, **of_series, **draw(some(INSTANCE)), **uids})
    return [{name: encoded(value, one["SpecificCharacterSet"]) for name, value in one.items()} for one in instances]


def encoded(value: Any, charset: str) -> Any:
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8" if charset == "ISO_IR 192" else "latin_1", "replace")


@st.composite
def keys_of(draw: st.DrawFn, pool: Sequence[str]) -> str | tuple[str, ...]:
    """A value to ask for: one that may be stored, made wild, in other letters, several, a range, empty."""
    text = draw(st.sampled_from(pool)).partition("\\")[0]
    at = draw(st.integers(0, len(text)))
    ways: list[Any] = [
        text,
        text.swapcase(),
        f"{text[:at]}*",
        f"*{text[at:]}",
        f"{text[:at]}?{text[at + 1 :]}",
        f"{text[:at]}*{text[at + 1 :]}",
        '""',
        "\\".join((text, draw(st.sampled_from(pool)))),
        f"{text}-",
        f"-{text}",
        f"{text}-{draw(st.sampled_from(pool))}",
    ]
    return draw(st.sampled_from(ways))  # type: ignore[no-any-return]


POOLS: dict[str, Sequence[str]] = {
    **STUDY,
    **SERIES,
    **INSTANCE,
    "ModalitiesInStudy": ["CT", "MR", "", "PT"],
    "RequestAttributesSequence.ScheduledProcedureStepID": STEPS,
    "RequestAttributesSequence.RequestedProcedureID": STEPS,
    "StudyInstanceUID": UIDS,
    "SeriesInstanceUID": [f"{uid}.0" for uid in UIDS],
    "SOPInstanceUID": [f"{uid}.0.0" for uid in UIDS],
}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    level = draw(st.sampled_from(Level))
    scope = Scope()
    if level is not Level.STUDY and draw(st.booleans()):
        scope = Scope(study=Uid(draw(st.sampled_from(UIDS))))
        if level is Level.INSTANCE and draw(st.booleans()):
            scope = Scope(study=scope.study, series=Uid(f"{draw(st.sampled_from(UIDS))}.0"))
    names = draw(st.lists(st.sampled_from(sorted(POOLS)), min_size=1, max_size=3, unique=True))
    if draw(st.booleans()):
        names = list(dict.fromkeys([*names, "StudyDate", "StudyTime"]))
    asked = [Asked(attribute_path(name), draw(keys_of(POOLS[name])), name) for name in names]
    options = MatchOptions(
        empty_value=draw(st.booleans()),
        multiple_value=draw(st.booleans()),
        offset_min=draw(st.sampled_from([None, 0, 60, -720])),
    )
    try:
        return plan(level, scope, asked, options=options, strict=False)
    except BadKeys:
        assume(False)
        raise


class Entity:
    """A study, series or instance as the matcher sees it: one of its data sets, and the modalities of the study."""

    def __init__(self, header: Header, modalities: tuple[str, ...]):
        self._header, self._modalities = header, modalities

    def texts(self, path: AttributePath) -> tuple[str, ...]:
        return self._modalities if path == MODALITIES else self._header.texts(path)

    def items(self, tag: int) -> Sequence[Header]:
        return self._header.items(tag)


def in_memory(instances: Sequence[dict[str, Any]], planned: Plan) -> set[str]:
    """Give the UIDs of all that match."""
    uid_of = {
        Level.PATIENT: "StudyInstanceUID",
        Level.STUDY: "StudyInstanceUID",
        Level.SERIES: "SeriesInstanceUID",
        Level.INSTANCE: "SOPInstanceUID",
    }
    patients = set()
    headers = [scanned(data_set(one)) for one in instances]
    matches = set()
    for one, header in zip(instances, headers, strict=True):
        if planned.scope.study not in (None, one["StudyInstanceUID"]):
            continue
        if planned.scope.series not in (None, one["SeriesInstanceUID"]):
            continue
        modalities = [
            value
            for other, of_other in zip(instances, headers, strict=True)
            if other["StudyInstanceUID"] == one["StudyInstanceUID"]
            for value in of_other.texts(attribute_path("Modality"))
        ]
        entity = Entity(header, tuple(dict.fromkeys(modalities)))
        if not all(key.matches(entity) for key in planned.keys):
            continue
        if planned.level is Level.PATIENT:  # its first study that matches stands for a patient
            patient = patient_of(header)
            if patient in patients:
                continue
            patients.add(patient)
        matches.add(one[uid_of[planned.level]])
    return matches


def patient_of(header: Header) -> tuple[tuple[str, ...], ...]:
    patient_id = header.texts(attribute_path("PatientID"))
    name = () if patient_id else header.texts(attribute_path("PatientName"))
    return patient_id, header.texts(attribute_path("IssuerOfPatientID")), name


@given(archives(), st.lists(plans(), min_size=1, max_size=6))
@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
def test_the_sql_search_selects_what_the_matcher_selects(instances: list[dict[str, Any]], searches: list[Plan]) -> None:
    conn = new_journal()
    for one in instances:
        put(conn, one)
    for planned in searches:
        column = {"study": "study_instance_uid", "series": "series_instance_uid", "instance": "sop_instance_uid"}
        table = search.table_of(planned.question().level)
        names = dict(conn.execute(f"SELECT id, {column[table]} FROM {table}").fetchall())
        assert {names[row_id] for row_id in sql_matches(conn, planned)} == in_memory(instances, planned)
    conn.close()
