-- What the oldest event is chained to, once older ones went to the archive.
CREATE TABLE start (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    position INTEGER NOT NULL CHECK (position >= 0),
    hash     BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

INSERT INTO start (id, position, hash) VALUES (1, 0, zeroblob(32));

CREATE TRIGGER start_is_one_row BEFORE INSERT ON start BEGIN
    SELECT RAISE(ABORT, 'the start of the log is one row');
END;

CREATE TRIGGER start_is_never_removed BEFORE DELETE ON start BEGIN
    SELECT RAISE(ABORT, 'the start of the log is never removed');
END;

-- Whoever moves it has to know the hash of an event that is there.
CREATE TRIGGER start_moves_onto_an_event BEFORE UPDATE ON start
WHEN NEW.position <= OLD.position
  OR NOT EXISTS (SELECT 1 FROM events WHERE position = NEW.position AND hash = NEW.hash) BEGIN
    SELECT RAISE(ABORT, 'the start of the log moves only forward, onto an event');
END;

-- The one way to remove events: first the start moves past them, which the
-- trigger above allows only to who knows the chain, and then they may go.
DROP TRIGGER events_are_never_removed;
CREATE TRIGGER events_are_never_removed BEFORE DELETE ON events
WHEN OLD.position > (SELECT position FROM start) BEGIN
    SELECT RAISE(ABORT, 'events are never removed before they are archived');
END;

DROP TRIGGER events_have_no_gaps;
CREATE TRIGGER events_have_no_gaps BEFORE INSERT ON events
WHEN NEW.position <> 1 + max(
    (SELECT coalesce(max(position), 0) FROM events), (SELECT position FROM start)) BEGIN
    SELECT RAISE(ABORT, 'events are appended without gaps');
END;

-- A released lease keeps its row, without a holder, because its epoch must grow.
CREATE TABLE leases (
    name          TEXT PRIMARY KEY,
    holder        TEXT,
    epoch         INTEGER NOT NULL CHECK (epoch > 0),
    expires_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE sealed (
    id          TEXT PRIMARY KEY,
    key_id      TEXT NOT NULL,
    wrapped_key BLOB NOT NULL,
    ciphertext  BLOB NOT NULL
) STRICT;

CREATE INDEX sealed_by_key ON sealed (key_id);
