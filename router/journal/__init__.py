"""The journal: facts about what was received and what is to be done with it. The only door to SQLite (schema.sql).

`Journal` writes and reads; `acceptance`, `sub_operations`, `requests`, `quiet_units`, `destinations`, `overview`
and `recovery` hold the operations; `records` the shapes that come in and go out.
"""
