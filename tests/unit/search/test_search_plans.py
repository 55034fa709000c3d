"""How SQLite looks for what is asked (EXPLAIN QUERY PLAN): the frequent searches never go through a whole table."""

from __future__ import annotations

from typing import Any

import pytest
from filled_journal import new_journal
from search_archive import instance, plan_of, put

from router.dicom.uids import Uid
from router.journal import search
from router.search import Level, Scope

STUDY = Scope(study=Uid("1.2.1"))
FREQUENT = [
    (Level.PATIENT, Scope(), {"PatientID": "P1"}),
    (Level.STUDY, Scope(), {"PatientID": "P1"}),
    (Level.STUDY, Scope(), {"PatientID": "P1*"}),
    (Level.STUDY, Scope(), {"AccessionNumber": "A1"}),
    (Level.STUDY, Scope(), {"StudyDate": "20240101-20240102"}),
    (Level.STUDY, Scope(), {"StudyDate": "20240101-"}),
    (Level.STUDY, Scope(), {"StudyDate": "20240101-20240102", "StudyTime": "1000-1200"}),
    (Level.STUDY, Scope(), {"PatientName": "Doe*", "StudyDate": "20240101"}),
    (Level.STUDY, Scope(), {"StudyInstanceUID": ("1.2.1", "1.2.2")}),
    (Level.SERIES, Scope(), {"PatientID": "P1", "Modality": "CT"}),
    (Level.SERIES, Scope(), {"SeriesInstanceUID": "1.2.1.1"}),
    (Level.SERIES, STUDY, {"Modality": "CT"}),
    (Level.INSTANCE, Scope(), {"AccessionNumber": "A1"}),
    (Level.INSTANCE, Scope(), {"SOPInstanceUID": ("1.2.3", "1.2.4"), "PatientName": "Doe*"}),
    (Level.INSTANCE, STUDY, {"InstanceNumber": "1"}),
    (Level.INSTANCE, Scope(Uid("1.2.1"), Uid("1.2.1.1"), Uid("1.2.1.1.1")), {}),
]


@pytest.mark.parametrize(("level", "scope", "keys"), FREQUENT)
def test_frequent_searches_do_not_scan(level: Level, scope: Scope, keys: dict[str, Any]) -> None:
    conn = new_journal()
    put(conn, instance("1.2.1", "1.2.1.1", "1.2.1.1.1"))
    select, parameters = search.matches(conn, plan_of(level, scope, **keys).question())
    steps = [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {select}", parameters)]
    allowed = ("SCAN json_each", "SCAN study USING INDEX study_odd")
    assert [step for step in steps if step.startswith("SCAN") and not step.startswith(allowed)] == []


def test_instances_are_counted_from_the_index_alone() -> None:
    conn = new_journal()
    counting = "SELECT count(*) FROM instance i WHERE i.series_id = 1 AND i.superseded = 0"
    [step] = [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {counting}")]
    assert "COVERING INDEX instance_series" in step
