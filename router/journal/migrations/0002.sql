-- From schema 1 to 2: C-MOVE and its bookkeeping, storage commitment asked and answered, proxies.
-- Two tables are made anew rather than altered, so that a migrated journal is that of schema.sql to the column. Foreign
-- keys are off while this runs, and checked before it is committed.

CREATE TABLE new_send_request (
  id                         INTEGER PRIMARY KEY,
  transaction_uid            TEXT NOT NULL UNIQUE,
  origin                     TEXT NOT NULL,
  resource                   TEXT NOT NULL DEFAULT 'instances',
  requester                  TEXT NOT NULL DEFAULT '',
  query                      TEXT NOT NULL DEFAULT '',
  rule                       TEXT NOT NULL DEFAULT '',
  destination                TEXT NOT NULL,
  source                     TEXT NOT NULL,
  originator_aet             TEXT NOT NULL DEFAULT '',
  originator_message_id      INTEGER,
  priority                   INTEGER NOT NULL DEFAULT 0,
  cancelled                  INTEGER NOT NULL DEFAULT 0,
  created_at                 REAL NOT NULL,
  closed_at                  REAL,
  expires_at                 REAL
);
INSERT INTO new_send_request (id, transaction_uid, origin, resource, requester, query, rule, destination, source,
                              created_at, closed_at, expires_at)
  SELECT id, transaction_uid, origin, resource, requester, query, rule, destination, source,
         created_at, closed_at, expires_at FROM send_request;
DROP TABLE send_request;
ALTER TABLE new_send_request RENAME TO send_request;
CREATE INDEX send_request_open ON send_request (id) WHERE closed_at IS NULL;
CREATE INDEX send_request_expiring ON send_request (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE new_sub_operation (
  id                         INTEGER PRIMARY KEY,
  send_request_id            INTEGER NOT NULL REFERENCES send_request (id),
  instance_id                INTEGER NOT NULL REFERENCES instance (id),
  destination                TEXT NOT NULL,
  sop_instance_uid           TEXT NOT NULL,
  state                      TEXT NOT NULL DEFAULT 'remaining'
                             CHECK (state IN ('remaining', 'completed', 'warning', 'failed')),
  in_flight                  INTEGER NOT NULL DEFAULT 0,
  uncertain                  INTEGER NOT NULL DEFAULT 0,
  confirming                 TEXT NOT NULL DEFAULT '',
  confirmation_id            INTEGER REFERENCES confirmation (id),
  attempts                   INTEGER NOT NULL DEFAULT 0,
  instance_failures          INTEGER NOT NULL DEFAULT 0,
  due_at                     REAL NOT NULL,
  created_at                 REAL NOT NULL,
  ended_at                   REAL,
  status                     INTEGER,
  reason                     TEXT NOT NULL DEFAULT ''
);
INSERT INTO new_sub_operation (id, send_request_id, instance_id, destination, sop_instance_uid, state, in_flight,
                               uncertain, attempts, instance_failures, due_at, created_at, ended_at, status, reason)
  SELECT id, send_request_id, instance_id, destination, sop_instance_uid, state, in_flight,
         uncertain, attempts, instance_failures, due_at, created_at, ended_at, status, reason FROM sub_operation;
DROP TABLE sub_operation;
ALTER TABLE new_sub_operation RENAME TO sub_operation;
CREATE INDEX sub_operation_due ON sub_operation (destination, due_at, id)
  WHERE state = 'remaining' AND in_flight = 0 AND confirming = '';
CREATE INDEX sub_operation_confirming ON sub_operation (destination, due_at) WHERE state = 'remaining' AND confirming <> '';
CREATE INDEX sub_operation_unasked ON sub_operation (destination, id)
  WHERE state = 'remaining' AND confirming <> '' AND confirmation_id IS NULL;
CREATE INDEX sub_operation_confirmation ON sub_operation (confirmation_id) WHERE confirmation_id IS NOT NULL;
CREATE INDEX sub_operation_remaining ON sub_operation (destination, sop_instance_uid, id) WHERE state = 'remaining';
CREATE INDEX sub_operation_request ON sub_operation (send_request_id, state, ended_at);
CREATE INDEX sub_operation_instance ON sub_operation (instance_id);
CREATE INDEX sub_operation_failed ON sub_operation (destination, id) WHERE state = 'failed';

CREATE TABLE commitment_request (
  id                         INTEGER PRIMARY KEY,
  transaction_uid            TEXT NOT NULL UNIQUE,
  origin                     TEXT NOT NULL CHECK (origin IN ('dimse', 'web')),
  requester                  TEXT NOT NULL,
  called_aet                 TEXT NOT NULL DEFAULT '',
  proxy                      TEXT NOT NULL DEFAULT '',
  created_at                 REAL NOT NULL,
  due_at                     REAL NOT NULL,
  ready_at                   REAL,
  report_due_at              REAL,
  report_tries               INTEGER NOT NULL DEFAULT 0,
  reported_at                REAL,
  report_problem             TEXT NOT NULL DEFAULT ''
);
CREATE INDEX commitment_request_open ON commitment_request (due_at) WHERE ready_at IS NULL;
CREATE INDEX commitment_request_ready ON commitment_request (ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX commitment_request_report ON commitment_request (report_due_at) WHERE report_due_at IS NOT NULL;

CREATE TABLE commitment_item (
  request_id                 INTEGER NOT NULL REFERENCES commitment_request (id),
  position                   INTEGER NOT NULL,
  sop_class_uid              TEXT NOT NULL,
  sop_instance_uid           TEXT NOT NULL,
  study                      TEXT NOT NULL,
  series                     TEXT NOT NULL,
  ruled                      INTEGER NOT NULL DEFAULT 0,
  failure_reason             INTEGER,
  PRIMARY KEY (request_id, position)
) WITHOUT ROWID;
CREATE INDEX commitment_item_open ON commitment_item (request_id, position) WHERE ruled = 0;

CREATE TABLE commitment_question (
  id                         INTEGER PRIMARY KEY,
  request_id                 INTEGER NOT NULL REFERENCES commitment_request (id),
  asker                      TEXT NOT NULL,
  asked                      INTEGER NOT NULL DEFAULT 0,
  closed                     INTEGER NOT NULL DEFAULT 0,
  tries                      INTEGER NOT NULL DEFAULT 0,
  due_at                     REAL NOT NULL,
  again_at                   REAL,
  problem                    TEXT NOT NULL DEFAULT ''
);
CREATE INDEX commitment_question_due ON commitment_question (due_at) WHERE closed = 0;
CREATE INDEX commitment_question_request ON commitment_question (request_id, asker);

CREATE TABLE commitment_answer (
  question_id                INTEGER NOT NULL REFERENCES commitment_question (id),
  position                   INTEGER NOT NULL,
  answered                   INTEGER NOT NULL DEFAULT 0,
  failure_reason             INTEGER,
  PRIMARY KEY (question_id, position)
) WITHOUT ROWID;

CREATE TABLE commitment_asked (
  transaction_uid            TEXT PRIMARY KEY,
  question_id                INTEGER NOT NULL REFERENCES commitment_question (id),
  asked_at                   REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX commitment_asked_question ON commitment_asked (question_id, asked_at);

CREATE TABLE confirmation (
  id                         INTEGER PRIMARY KEY,
  transaction_uid            TEXT NOT NULL UNIQUE,
  destination                TEXT NOT NULL,
  asked_at                   REAL NOT NULL,
  next_check_at              REAL,
  ended_at                   REAL
);
CREATE INDEX confirmation_open ON confirmation (destination, next_check_at) WHERE ended_at IS NULL;
CREATE INDEX confirmation_ended ON confirmation (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE proxied_request (
  send_request_id            INTEGER PRIMARY KEY REFERENCES send_request (id),
  proxy                      TEXT NOT NULL,
  move_destination           TEXT NOT NULL,
  due_at                     REAL,
  tries                      INTEGER NOT NULL DEFAULT 0,
  reason                     TEXT NOT NULL DEFAULT ''
);
CREATE INDEX proxied_request_due ON proxied_request (proxy, due_at) WHERE due_at IS NOT NULL;

CREATE TABLE proxied_instance (
  id                         INTEGER PRIMARY KEY,
  send_request_id            INTEGER NOT NULL REFERENCES send_request (id),
  study_instance_uid         TEXT NOT NULL,
  series_instance_uid        TEXT NOT NULL,
  sop_instance_uid           TEXT NOT NULL,
  state                      TEXT NOT NULL DEFAULT 'remaining'
                             CHECK (state IN ('remaining', 'completed', 'warning', 'failed')),
  in_flight                  INTEGER NOT NULL DEFAULT 0,
  asked                      INTEGER NOT NULL DEFAULT 0,
  alone                      INTEGER NOT NULL DEFAULT 0,
  ended_at                   REAL,
  status                     INTEGER,
  reason                     TEXT NOT NULL DEFAULT ''
);
CREATE INDEX proxied_instance_request ON proxied_instance (send_request_id, state, ended_at);
CREATE INDEX proxied_instance_next ON proxied_instance (send_request_id, alone, id) WHERE state = 'remaining';
CREATE INDEX proxied_instance_in_flight ON proxied_instance (id) WHERE in_flight = 1;
