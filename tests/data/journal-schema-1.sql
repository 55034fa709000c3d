-- Version 1 of router/journal/schema.sql, as it was released; tests make journals with it. Never changed.
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
  origin                     TEXT NOT NULL,                     -- 'rule', 'send-rs'
  resource                   TEXT NOT NULL DEFAULT 'instances', -- what it is a send request of: 'studies', 'studies/1.2/series', …
  requester                  TEXT NOT NULL DEFAULT '',          -- who may ask for its result; '' for a rule's
  query                      TEXT NOT NULL DEFAULT '',          -- the search of the request, for people
  rule                       TEXT NOT NULL DEFAULT '',
  destination                TEXT NOT NULL,
  source                     TEXT NOT NULL,                     -- who sent what set it off, for people
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
  attempts                   INTEGER NOT NULL DEFAULT 0,
  instance_failures          INTEGER NOT NULL DEFAULT 0,        -- attempts whose failure is the instance's own
  due_at                     REAL NOT NULL,
  created_at                 REAL NOT NULL,
  ended_at                   REAL,
  status                     INTEGER,                           -- last DIMSE status, Failure Reason or HTTP status
  reason                     TEXT NOT NULL DEFAULT ''           -- the peer's words, or ours
);
CREATE INDEX sub_operation_due ON sub_operation (destination, due_at, id) WHERE state = 'remaining' AND in_flight = 0;
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
