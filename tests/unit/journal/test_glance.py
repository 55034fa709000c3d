"""Three numbers for `systemctl status`, which must cost little however much was delivered."""

from __future__ import annotations

from filled_journal import ended, new_journal, put, take

from router.journal.glance import MOST_COUNTED, Glance, glance
from router.journal.sub_operations import finish


def test_what_waits_what_failed_and_who_is_in_trouble() -> None:
    conn = new_journal()
    for number in range(5):
        put(conn, number)
    first, second, *_ = take(conn)
    finish(conn, [ended(first), ended(second, "failed")])
    conn.execute("INSERT INTO destination VALUES ('archive', 'waiting', 'away', 1, 2), ('cloud', 'ready', '', 1, NULL)")
    assert glance(conn) == Glance(waiting=3, failed=1, troubled={"archive": "waiting"})


def test_it_never_goes_through_what_was_delivered() -> None:
    conn = new_journal()
    statements: list[str] = []
    conn.set_trace_callback(statements.append)
    glance(conn)
    conn.set_trace_callback(None)
    plans = [conn.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall() for sql in statements if "sub_operation" in sql]
    assert len(plans) == 2
    for plan in plans:
        assert any("USING" in row[3] and ("_remaining" in row[3] or "_failed" in row[3]) for row in plan), plan
    assert all(str(MOST_COUNTED) in sql for sql in statements if "sub_operation" in sql)
