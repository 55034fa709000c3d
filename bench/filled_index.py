"""A journal filled directly with N studies and M instances, and how long searches in it take.

The rows are as acceptance would have written them; the files that they name are not there.
`python -m bench.filled_index FOLDER` compares a small and a large one, made in that folder.
"""

from __future__ import annotations

import random
import sqlite3
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import anyio

from router.dicom.attributes import attribute_path
from router.dicom.matcher import MatchOptions
from router.dicom.uids import Uid
from router.journal.connection import FILE_NAME, open_for_writing
from router.journal.journal import Journal
from router.journal.records import SeriesRow, StudyRow
from router.search import Asked, Index, Level, Plan, Scope, plan
from router.store.files import Store

Times = tuple[float, float]
"""Median and 95th percentile, in ms."""

SEARCHED = ("PatientID", "AccessionNumber", "StudyDate")
STUDIES, INSTANCES = 100_000, 1_000_000
SMALL_STUDIES, SMALL_INSTANCES = 1_000, 10_000
SERIES_A_STUDY = 2
STUDIES_A_DAY = 8
"""A StudyDate of one day has so many results."""
STUDIES_A_PATIENT = 4
INSTANCE_COLUMNS = (
    *("id", "series_id", "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "instance_number"),
    *("number_of_frames", "rows", "columns", "bits_allocated", "file", "data_set_offset", "data_set_bytes"),
    *("data_set_sha256", "protocol", "calling_aet", "called_aet", "address", "received_at", "arrival", "flushed"),
    *("routed", "note"),
)
ROOT = "1.2.826.0.1.3680043.8.498"
MODALITIES = ("CT", "MR", "CR", "US", "MG", "PT", "XA", "DX")
FIRST_DAY = time.mktime((1990, 1, 1, 12, 0, 0, 0, 0, 0))
NAMES = ("Garcia", "Smith", "Müller", "Tanaka", "Okafor", "Ivanova", "Nguyen", "Silva")


def fill(state: Path, studies: int = STUDIES, instances: int = INSTANCES) -> float:
    """Make the journal of a new state folder; gives the seconds that it took."""
    start = time.perf_counter()
    state.mkdir(parents=True, exist_ok=True)
    conn = open_for_writing(state / FILE_NAME)
    try:
        conn.execute("PRAGMA synchronous=OFF")
        conn.execute("PRAGMA foreign_keys=OFF")
        indexes = conn.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        ).fetchall()
        conn.execute("BEGIN")
        for name, _ in indexes:
            conn.execute(f"DROP INDEX {name}")
        _insert(conn, "study", ("id", *StudyRow.__struct_fields__), _studies(studies))
        _insert(conn, "series", ("id", "study_id", *SeriesRow.__struct_fields__), _series(studies))
        _insert(conn, "instance", INSTANCE_COLUMNS, _instances(studies, instances))
        conn.execute("UPDATE counter SET value = ? WHERE name = 'arrival'", (instances + 1,))
        for _, sql in indexes:
            conn.execute(sql)
        conn.execute("COMMIT")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        conn.close()
    return time.perf_counter() - start


def _insert(conn: sqlite3.Connection, table: str, columns: Sequence[str], rows: Iterator[tuple[object, ...]]) -> None:
    places = ", ".join("?" * len(columns))
    conn.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", rows)


def _date(number: int) -> str:
    return time.strftime("%Y%m%d", time.localtime(FIRST_DAY + number // STUDIES_A_DAY * 86_400))


def _studies(studies: int) -> Iterator[tuple[object, ...]]:
    for n in range(1, studies + 1):
        patient = n // STUDIES_A_PATIENT
        yield (
            n,
            f"{ROOT}.1.{n}",
            f"PAT{patient:07}",
            "HOSPITAL",
            f"{NAMES[patient % len(NAMES)]}^{patient:x}",
            f"{1930 + patient % 80}0{1 + patient % 9}15",
            "FMO"[patient % 3],
            _date(n),
            f"{8 + n % 12:02}{n % 60:02}30",
            f"ACC{n:09}",
            "House^Gregory",
            f"S{n}",
            "Chest and abdomen",
            "+0100",
        )


def _series(studies: int) -> Iterator[tuple[object, ...]]:
    for n in range(1, studies + 1):
        for number in range(1, SERIES_A_STUDY + 1):
            row = (n - 1) * SERIES_A_STUDY + number
            modality = MODALITIES[row % len(MODALITIES)]
            requests = f'[["STEP{n}","PROC{n}"]]'
            yield (
                row,
                n,
                f"{ROOT}.2.{row}",
                modality,
                str(number),
                "Axial 1 mm",
                "CHEST",
                _date(n),
                "100000",
                requests,
            )


def _instances(studies: int, instances: int) -> Iterator[tuple[object, ...]]:
    series = studies * SERIES_A_STUDY
    each = max(1, instances // series)
    for n in range(1, instances + 1):
        yield (
            n,
            min(series, (n - 1) // each + 1),
            f"{ROOT}.3.{n}",
            "1.2.840.10008.5.1.4.1.1.2",
            "1.2.840.10008.1.2.1",
            str((n - 1) % each + 1),
            "",
            "512",
            "512",
            "16",
            f"{n // 10_000:06}/{n:032x}.dcm",
            1_000,
            526_000,
            n.to_bytes(32, "big"),
            "C-STORE",
            "CT1",
            "SENDRS",
            "192.0.2.7",
            1.7e9 + n / 100,
            n,
            1,
            1,
            "",
        )


def search_values(number: int) -> dict[str, str]:
    """Give a value of each of the three attributes that study `number` has; none has over ten results."""
    return {
        "PatientID": f"PAT{number // STUDIES_A_PATIENT:07}",
        "AccessionNumber": f"ACC{number:09}",
        "StudyDate": f"{_date(number)}-{_date(number)}",
    }


def searches(studies: int, seed: int = 1) -> Iterator[dict[str, Plan]]:
    """Give the three searches of the issue, by their names, with other values each time; none has over ten results."""
    chance = random.Random(seed)
    while True:
        n = chance.randint(1, studies)
        yield {
            name: plan(
                Level.STUDY, Scope(), [Asked(attribute_path(name), value, name)], options=MatchOptions(), strict=True
            )
            for name, value in search_values(n).items()
        }


async def _measure(state: Path, studies: int, rounds: int) -> dict[str, Times]:
    times: dict[str, list[float]] = {}
    async with Journal.open(state) as journal, Store.open(state) as store:
        index = Index(journal, store)
        series = await index.find(_warm_up(studies), limit=1)
        assert series.results
        for plans, _ in zip(searches(studies), range(rounds), strict=False):
            for name, one in plans.items():
                start = time.perf_counter()
                found = await index.find(one, limit=10)
                times.setdefault(name, []).append((time.perf_counter() - start) * 1000)
                assert 1 <= len(found.results) + found.remaining <= 10, (name, found)
    return {name: (statistics.median(all_ms), _p95(all_ms)) for name, all_ms in times.items()}


def _warm_up(studies: int) -> Plan:
    uid = Uid(f"{ROOT}.1.{studies}")
    return plan(Level.SERIES, Scope(study=uid), [], options=MatchOptions(), strict=True)


def _p95(all_ms: list[float]) -> float:
    return statistics.quantiles(all_ms, n=20)[-1]


def measure_searches(state: Path, studies: int, rounds: int = 300) -> dict[str, Times]:
    """Run each of the three searches `rounds` times in a filled state folder; gives p50 and p95 in ms by name."""
    return anyio.run(_measure, state, studies, rounds)


def compare(folder: Path, rounds: int = 5, searches_a_round: int = 100) -> dict[str, tuple[Times, Times]]:
    """Fill a small and a large index in `folder` and search both in turn; gives the medians of p50 and p95 of each."""
    states = {"small": SMALL_STUDIES, "large": STUDIES}
    fill(folder / "small", SMALL_STUDIES, SMALL_INSTANCES)
    fill(folder / "large", STUDIES, INSTANCES)
    measured: dict[str, list[dict[str, Times]]] = {size: [] for size in states}
    for _ in range(rounds):
        for size, studies in states.items():
            measured[size].append(measure_searches(folder / size, studies, searches_a_round))
    return {name: (_medians(measured["small"], name), _medians(measured["large"], name)) for name in SEARCHED}


def _medians(all_rounds: Sequence[Mapping[str, Times]], name: str) -> Times:
    p50, p95 = zip(*(one[name] for one in all_rounds), strict=True)
    return statistics.median(p50), statistics.median(p95)


if __name__ == "__main__":
    for name, (small, large) in compare(Path(sys.argv[1])).items():
        print(f"{name}: p50 {small[0]:.2f} and {large[0]:.2f} ms, p95 {small[1]:.2f} and {large[1]:.2f} ms")
