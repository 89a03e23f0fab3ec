-- What makes the file recognisable as a helix log: "HLXL".
PRAGMA application_id = 1212962892;

CREATE TABLE events (
    position INTEGER PRIMARY KEY CHECK (position > 0),
    at_ms    INTEGER NOT NULL,
    payload  BLOB NOT NULL,
    hash     BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- The program has no statement that would trip over these. They are for the
-- statement somebody adds by mistake, and for hands at a sqlite prompt.
CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events BEGIN
    SELECT RAISE(ABORT, 'events are never changed');
END;

CREATE TRIGGER events_are_never_removed BEFORE DELETE ON events BEGIN
    SELECT RAISE(ABORT, 'events are never removed');
END;

-- Also what stops INSERT OR REPLACE, which fires no delete trigger.
CREATE TRIGGER events_have_no_gaps BEFORE INSERT ON events
WHEN NEW.position <> (SELECT coalesce(max(position), 0) + 1 FROM events) BEGIN
    SELECT RAISE(ABORT, 'events are appended without gaps');
END;

CREATE TABLE receipts (
    key          TEXT PRIMARY KEY,
    request_hash BLOB NOT NULL CHECK (length(request_hash) = 32),
    body         BLOB NOT NULL,
    at_ms        INTEGER NOT NULL,
    position     INTEGER NOT NULL
) STRICT;

CREATE INDEX receipts_by_age ON receipts (at_ms);

-- One row at most: only the newest snapshot is of use.
CREATE TABLE snapshot (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    position INTEGER NOT NULL,
    format   INTEGER NOT NULL,
    digest   BLOB NOT NULL CHECK (length(digest) = 32),
    bytes    BLOB NOT NULL
) STRICT;
