-- The journal: facts about what was received and what is to be done with it. Content is in the store (house.md).
-- Times are Unix seconds as REAL; texts are decoded to UTF-8; an attribute that is absent or empty is '', one of several
-- values has them between backslashes.

-- One row a study, with the patient attributes that came with it (PS3.18 Table 10.6.1-5 and 10.6.3-3).
CREATE TABLE study (
  id                         INTEGER PRIMARY KEY,
  study_instance_uid         TEXT NOT NULL UNIQUE,
  patient_id                 TEXT NOT NULL,
  issuer_of_patient_id       TEXT NOT NULL,
  patient_name               TEXT NOT NULL,
  patient_birth_date         TEXT NOT NULL,
  patient_sex                TEXT NOT NULL,
  study_date                 TEXT NOT NULL,
  study_time                 TEXT NOT NULL,
  accession_number           TEXT NOT NULL,
  referring_physician_name   TEXT NOT NULL,
  study_id                   TEXT NOT NULL,
  study_description          TEXT NOT NULL,
  timezone_offset_from_utc   TEXT NOT NULL,
  -- what the three indexes below cannot be asked for: several values, and dates not written YYYYMMDD
  odd                        INTEGER GENERATED ALWAYS AS (
                               instr(patient_id, '\') OR instr(accession_number, '\') OR length(study_date) NOT IN (0, 8)
                             ) VIRTUAL
);
CREATE INDEX study_patient ON study (patient_id);
CREATE INDEX study_accession ON study (accession_number);
CREATE INDEX study_date ON study (study_date);
CREATE INDEX study_odd ON study (id) WHERE odd;

CREATE TABLE series (
  id                         INTEGER PRIMARY KEY,
  study_id                   INTEGER NOT NULL REFERENCES study (id),
  series_instance_uid        TEXT NOT NULL,
  modality                   TEXT NOT NULL,
  series_number              TEXT NOT NULL,
  series_description         TEXT NOT NULL,
  body_part_examined         TEXT NOT NULL,
  performed_procedure_step_start_date TEXT NOT NULL,
  performed_procedure_step_start_time TEXT NOT NULL,
  request_attributes         TEXT NOT NULL,  -- JSON: [[scheduled procedure step id, requested procedure id], …]
  UNIQUE (study_id, series_instance_uid)
);
CREATE INDEX series_uid ON series (series_instance_uid);

-- One row a stored file. The same SOP Instance UID may stand twice, with different content (D13): `superseded` marks the older.
CREATE TABLE instance (
  id                         INTEGER PRIMARY KEY,
  series_id                  INTEGER REFERENCES series (id),   -- NULL for a non-patient instance
  sop_instance_uid           TEXT NOT NULL,
  sop_class_uid              TEXT NOT NULL,
  transfer_syntax_uid        TEXT NOT NULL,
  instance_number            TEXT NOT NULL,
  number_of_frames           TEXT NOT NULL,
  rows                       TEXT NOT NULL,
  columns                    TEXT NOT NULL,
  bits_allocated             TEXT NOT NULL,
  file                       TEXT NOT NULL UNIQUE,              -- relative to the store
  data_set_offset            INTEGER NOT NULL,
  data_set_bytes             INTEGER NOT NULL,
  data_set_sha256            BLOB NOT NULL,
  protocol                   TEXT NOT NULL,
  calling_aet                TEXT NOT NULL,
  called_aet                 TEXT NOT NULL,
  address                    TEXT NOT NULL,
  received_at                REAL NOT NULL,
  arrival                    INTEGER NOT NULL,                  -- counts acceptances; a coalesced repeat moves it
  superseded                 INTEGER NOT NULL DEFAULT 0,
  flushed                    INTEGER NOT NULL DEFAULT 0,        -- its file is known to be on the disk
  routed                     INTEGER NOT NULL,                  -- 0: no rule fired (yet)
  note                       TEXT NOT NULL DEFAULT ''           -- what a person should know: odd header, rule error
);
CREATE INDEX instance_uid ON instance (sop_instance_uid);
CREATE INDEX instance_series ON instance (series_id, superseded);  -- instances are counted from this alone
CREATE INDEX instance_unrouted ON instance (id) WHERE routed = 0;
CREATE INDEX instance_unflushed ON instance (id) WHERE flushed = 0;

-- What a non-patient instance is searched by (PS3.18 chapter 12). Its row goes with that of the instance.
CREATE TABLE non_patient (
  instance_id                INTEGER PRIMARY KEY REFERENCES instance (id) ON DELETE CASCADE,
  category                   TEXT NOT NULL,                     -- npi-name: 'hanging-protocols', …
  keys                       TEXT NOT NULL                      -- DICOM JSON: the attributes of router/dicom/non_patient.py
);
CREATE INDEX non_patient_category ON non_patient (category, instance_id);

-- A send request (SEND-RS job). `closed_at` is set when nothing more will be added to it.
CREATE TABLE send_request (
  id                         INTEGER PRIMARY KEY,
  transaction_uid            TEXT NOT NULL UNIQUE,
  origin                     TEXT NOT NULL,                     -- 'rule', 'send-rs', 'c-move', 'proxy'
  resource                   TEXT NOT NULL DEFAULT 'instances', -- what it is a send request of: 'studies', 'studies/1.2/series', …
  requester                  TEXT NOT NULL DEFAULT '',          -- who may ask for its result; '' for a rule's
  query                      TEXT NOT NULL DEFAULT '',          -- the search of the request, for people
  rule                       TEXT NOT NULL DEFAULT '',
  destination                TEXT NOT NULL,
  source                     TEXT NOT NULL,                     -- who sent what set it off, for people
  originator_aet             TEXT NOT NULL DEFAULT '',          -- who invoked the C-MOVE, and its Message ID
  originator_message_id      INTEGER,
  priority                   INTEGER NOT NULL DEFAULT 0,        -- of the C-MOVE; 0 is MEDIUM
  cancelled                  INTEGER NOT NULL DEFAULT 0,        -- who asked for it wants no more of it (C-CANCEL)
  created_at                 REAL NOT NULL,
  closed_at                  REAL,
  expires_at                 REAL                               -- what remains then is failed; NULL when nothing will be
);
CREATE INDEX send_request_open ON send_request (id) WHERE closed_at IS NULL;
CREATE INDEX send_request_expiring ON send_request (expires_at) WHERE expires_at IS NOT NULL;

-- One instance to one destination. `state` as SEND-RS counts it; a failed one of a rule is parked until a person acts.
CREATE TABLE sub_operation (
  id                         INTEGER PRIMARY KEY,
  send_request_id            INTEGER NOT NULL REFERENCES send_request (id),
  instance_id                INTEGER NOT NULL REFERENCES instance (id),
  destination                TEXT NOT NULL,
  sop_instance_uid           TEXT NOT NULL,
  state                      TEXT NOT NULL DEFAULT 'remaining'
                             CHECK (state IN ('remaining', 'completed', 'warning', 'failed')),
  in_flight                  INTEGER NOT NULL DEFAULT 0,
  uncertain                  INTEGER NOT NULL DEFAULT 0,        -- sent, answer unknown
  confirming                 TEXT NOT NULL DEFAULT '',          -- answered; its state once the destination has committed to it
  confirmation_id            INTEGER REFERENCES confirmation (id),  -- in which it was asked for that; NULL: still to be asked
  attempts                   INTEGER NOT NULL DEFAULT 0,
  instance_failures          INTEGER NOT NULL DEFAULT 0,        -- attempts whose failure is the instance's own
  due_at                     REAL NOT NULL,                     -- next attempt; while confirming, the end of the wait
  created_at                 REAL NOT NULL,
  ended_at                   REAL,
  status                     INTEGER,                           -- last DIMSE status, Failure Reason or HTTP status
  reason                     TEXT NOT NULL DEFAULT ''           -- the peer's words, or ours
);
CREATE INDEX sub_operation_due ON sub_operation (destination, due_at, id)
  WHERE state = 'remaining' AND in_flight = 0 AND confirming = '';
CREATE INDEX sub_operation_confirming ON sub_operation (destination, due_at) WHERE state = 'remaining' AND confirming <> '';
CREATE INDEX sub_operation_unasked ON sub_operation (destination, id)
  WHERE state = 'remaining' AND confirming <> '' AND confirmation_id IS NULL;
CREATE INDEX sub_operation_confirmation ON sub_operation (confirmation_id) WHERE confirmation_id IS NOT NULL;
CREATE INDEX sub_operation_remaining ON sub_operation (destination, sop_instance_uid, id) WHERE state = 'remaining';
CREATE INDEX sub_operation_request ON sub_operation (send_request_id, state, ended_at);  -- a job is counted from this alone
CREATE INDEX sub_operation_instance ON sub_operation (instance_id);
CREATE INDEX sub_operation_failed ON sub_operation (destination, id) WHERE state = 'failed';

-- Every attempt, written before it is made (invariant 4).
CREATE TABLE attempt (
  id                         INTEGER PRIMARY KEY,
  sub_operation_id           INTEGER NOT NULL REFERENCES sub_operation (id),
  started_at                 REAL NOT NULL,
  ended_at                   REAL,
  outcome                    TEXT NOT NULL DEFAULT '',          -- '' while under way
  status                     INTEGER,
  reason                     TEXT NOT NULL DEFAULT ''
);
CREATE INDEX attempt_sub_operation ON attempt (sub_operation_id);

-- What a lane last knew of its destination, for people to see.
CREATE TABLE destination (
  name                       TEXT PRIMARY KEY,
  state                      TEXT NOT NULL,                     -- 'ready', 'waiting', 'misconfigured'
  reason                     TEXT NOT NULL,
  since                      REAL NOT NULL,
  retry_at                   REAL
) WITHOUT ROWID;

-- A series or study that a rule with when = "series" or "study" waits for until it is quiet.
CREATE TABLE quiet_unit (
  rule                       TEXT NOT NULL,
  level                      TEXT NOT NULL,                     -- 'series', 'study'
  unit_id                    INTEGER NOT NULL,                  -- series.id or study.id
  destinations               TEXT NOT NULL,                     -- JSON list
  matched                    INTEGER NOT NULL,
  vetoed                     INTEGER NOT NULL,
  due_at                     REAL NOT NULL,
  sent_through               INTEGER NOT NULL DEFAULT 0,        -- instance.arrival up to which it was sent
  waiting                    INTEGER NOT NULL DEFAULT 1,
  PRIMARY KEY (rule, level, unit_id)
) WITHOUT ROWID;
CREATE INDEX quiet_unit_due ON quiet_unit (due_at) WHERE waiting = 1;

-- Single values: 'arrival' (last one reserved), 'clean' (1 after a clean stop), 'started_at' (Unix seconds of the last start).
CREATE TABLE counter (
  name                       TEXT PRIMARY KEY,
  value                      INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO counter VALUES ('arrival', 0), ('clean', 1), ('started_at', 0);

-- Somebody wants instances to be kept for good (storage commitment, PS3.4 Annex J, PS3.18 chapter 13). These
-- Transaction UIDs are a space of their own, for both protocols (O-25).
CREATE TABLE commitment_request (
  id                         INTEGER PRIMARY KEY,
  transaction_uid            TEXT NOT NULL UNIQUE,
  origin                     TEXT NOT NULL CHECK (origin IN ('dimse', 'web')),
  requester                  TEXT NOT NULL,                     -- its AE title, or the principal who may ask for the result
  called_aet                 TEXT NOT NULL DEFAULT '',          -- as whom we were asked, and report
  proxy                      TEXT NOT NULL DEFAULT '',          -- whose upstream decides; '' when we do
  created_at                 REAL NOT NULL,
  due_at                     REAL NOT NULL,                     -- when it is looked at again while it is open
  ready_at                   REAL,                              -- every instance has its ruling
  report_due_at              REAL,                              -- the N-EVENT-REPORT is still to be brought; NULL: not, or done
  report_tries               INTEGER NOT NULL DEFAULT 0,
  reported_at                REAL,                              -- the requester answered it
  report_problem             TEXT NOT NULL DEFAULT ''           -- why not, for people
);
CREATE INDEX commitment_request_open ON commitment_request (due_at) WHERE ready_at IS NULL;
CREATE INDEX commitment_request_ready ON commitment_request (ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX commitment_request_report ON commitment_request (report_due_at) WHERE report_due_at IS NOT NULL;

CREATE TABLE commitment_item (
  request_id                 INTEGER NOT NULL REFERENCES commitment_request (id),
  position                   INTEGER NOT NULL,
  sop_class_uid              TEXT NOT NULL,
  sop_instance_uid           TEXT NOT NULL,
  study                      TEXT NOT NULL,                     -- as the request said, '' when it did not
  series                     TEXT NOT NULL,
  ruled                      INTEGER NOT NULL DEFAULT 0,
  failure_reason             INTEGER,                           -- NULL and ruled: committed
  PRIMARY KEY (request_id, position)
) WITHOUT ROWID;
CREATE INDEX commitment_item_open ON commitment_item (request_id, position) WHERE ruled = 0;

-- What we ask somebody else because of a request: the upstream of its proxy, or a destination.
CREATE TABLE commitment_question (
  id                         INTEGER PRIMARY KEY,
  request_id                 INTEGER NOT NULL REFERENCES commitment_request (id),
  asker                      TEXT NOT NULL,                     -- 'proxies.<name>', 'destinations.<name>'
  asked                      INTEGER NOT NULL DEFAULT 0,        -- it was taken; the answer is awaited
  closed                     INTEGER NOT NULL DEFAULT 0,        -- answered, or no longer of use
  tries                      INTEGER NOT NULL DEFAULT 0,
  due_at                     REAL NOT NULL,                     -- when to ask, or to look for the answer
  again_at                   REAL,                              -- when to ask once more
  problem                    TEXT NOT NULL DEFAULT ''
);
CREATE INDEX commitment_question_due ON commitment_question (due_at) WHERE closed = 0;
CREATE INDEX commitment_question_request ON commitment_question (request_id, asker);

CREATE TABLE commitment_answer (
  question_id                INTEGER NOT NULL REFERENCES commitment_question (id),
  position                   INTEGER NOT NULL,                  -- of the item of its request
  answered                   INTEGER NOT NULL DEFAULT 0,
  failure_reason             INTEGER,
  PRIMARY KEY (question_id, position)
) WITHOUT ROWID;

-- Under which Transaction UIDs it was asked, written down before.
CREATE TABLE commitment_asked (
  transaction_uid            TEXT PRIMARY KEY,
  question_id                INTEGER NOT NULL REFERENCES commitment_question (id),
  asked_at                   REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX commitment_asked_question ON commitment_asked (question_id, asked_at);

-- Storage commitment that we ask of a destination (confirm = "commitment"); its instances are the sub-operations that
-- point to it. Written before it is asked.
CREATE TABLE confirmation (
  id                         INTEGER PRIMARY KEY,
  transaction_uid            TEXT NOT NULL UNIQUE,
  destination                TEXT NOT NULL,
  asked_at                   REAL NOT NULL,
  next_check_at              REAL,                              -- when to look for the answer; NULL: not known to be asked
  ended_at                   REAL                               -- answered, or no longer of use; kept for reports that repeat
);
CREATE INDEX confirmation_open ON confirmation (destination, next_check_at) WHERE ended_at IS NULL;
CREATE INDEX confirmation_ended ON confirmation (ended_at) WHERE ended_at IS NOT NULL;

-- What a PACS behind a proxy is to send on (Sup 248 B.X3): a send request of origin 'proxy' has these rows in place of
-- sub-operations. They are made with it, before the PACS is asked for anything.
CREATE TABLE proxied_request (
  send_request_id            INTEGER PRIMARY KEY REFERENCES send_request (id),
  proxy                      TEXT NOT NULL,                     -- whose upstream is asked
  move_destination           TEXT NOT NULL,                     -- AE title by which the PACS knows the destination
  due_at                     REAL,                              -- when it is asked next; NULL: nothing is left to ask
  tries                      INTEGER NOT NULL DEFAULT 0,        -- in a row, that came to nothing
  reason                     TEXT NOT NULL DEFAULT ''           -- why, for people
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
  in_flight                  INTEGER NOT NULL DEFAULT 0,        -- named in a C-MOVE whose end is not known
  asked                      INTEGER NOT NULL DEFAULT 0,        -- C-MOVEs in which it was named
  alone                      INTEGER NOT NULL DEFAULT 0,        -- must be the only one: else its outcome cannot be told
  ended_at                   REAL,
  status                     INTEGER,                           -- of the last C-MOVE
  reason                     TEXT NOT NULL DEFAULT ''
);
CREATE INDEX proxied_instance_request ON proxied_instance (send_request_id, state, ended_at);
CREATE INDEX proxied_instance_next ON proxied_instance (send_request_id, alone, id) WHERE state = 'remaining';
CREATE INDEX proxied_instance_in_flight ON proxied_instance (id) WHERE in_flight = 1;
