"""The journal: facts about what was received and what is to be done with it, in SQLite (schema.sql). The only door
to sqlite3.

`Journal` writes and reads; `acceptance`, `sub_operations`, `requests`, `quiet_units`, `destinations`, `overview`
and `recovery` hold the operations; `records` the shapes that come in and go out.
"""
