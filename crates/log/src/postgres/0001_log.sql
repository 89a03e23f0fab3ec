-- Everything lives in a schema of its own, so that helix never looks at or
-- touches a table it has not made.
CREATE SCHEMA helix;

-- What makes the database recognisable as a helix log.
CREATE TABLE helix.installation (
    application    text NOT NULL,
    schema_version bigint NOT NULL
);
INSERT INTO helix.installation VALUES ('helix-log', 0);

-- One row: the head, which every append locks and moves, and the start. It is
-- what makes positions follow the order of commits and leave no gaps; an
-- identity column does neither.
CREATE TABLE helix.log (
    id             integer PRIMARY KEY CHECK (id = 1),
    position       bigint NOT NULL CHECK (position >= 0),
    hash           bytea NOT NULL CHECK (length(hash) = 32),
    start_position bigint NOT NULL CHECK (start_position BETWEEN 0 AND position),
    start_hash     bytea NOT NULL CHECK (length(start_hash) = 32)
) WITH (fillfactor = 10);
INSERT INTO helix.log
VALUES (1, 0, decode(repeat('00', 32), 'hex'), 0, decode(repeat('00', 32), 'hex'));

CREATE TABLE helix.events (
    position bigint PRIMARY KEY CHECK (position > 0),
    at_ms    bigint NOT NULL,
    payload  bytea NOT NULL,
    hash     bytea NOT NULL CHECK (length(hash) = 32)
);

-- The program has no statement that would trip over the triggers below. They
-- are for the statement somebody adds by mistake, and for hands at a prompt.
-- Each fires once for a statement, so that they cost an append next to nothing.

CREATE FUNCTION helix.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0];
END $$;

CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON helix.events
    FOR EACH STATEMENT EXECUTE FUNCTION helix.refuse('events are never changed');
CREATE TRIGGER events_are_never_truncated BEFORE TRUNCATE ON helix.events
    FOR EACH STATEMENT EXECUTE FUNCTION helix.refuse('events are never removed');
CREATE TRIGGER log_is_one_row BEFORE INSERT OR DELETE OR TRUNCATE ON helix.log
    FOR EACH STATEMENT EXECUTE FUNCTION helix.refuse('the head of the log is one row');

CREATE FUNCTION helix.check_added_events() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    first bigint; last bigint; amount bigint;
BEGIN
    SELECT min(position), max(position), count(*) INTO first, last, amount FROM added;
    IF amount > 0 AND (
        amount <> last - first + 1
        OR last <> (SELECT position FROM helix.log)
        OR (first - 1 <> (SELECT start_position FROM helix.log)
            AND NOT EXISTS (SELECT FROM helix.events WHERE position = first - 1))
    ) THEN
        RAISE EXCEPTION 'events are appended without gaps, and the head moves with them';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER events_have_no_gaps AFTER INSERT ON helix.events
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION helix.check_added_events();

-- The one way to remove events: first the start moves past them, which the last
-- trigger allows only to who knows the hash of an event there, and then they may
-- go.
CREATE FUNCTION helix.check_removed_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM removed WHERE position > (SELECT start_position FROM helix.log)) THEN
        RAISE EXCEPTION 'events are never removed before they are archived';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER events_are_never_removed AFTER DELETE ON helix.events
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION helix.check_removed_events();

CREATE FUNCTION helix.check_start() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.start_position <= OLD.start_position OR NOT EXISTS (
        SELECT FROM helix.events WHERE position = NEW.start_position AND hash = NEW.start_hash
    ) THEN
        RAISE EXCEPTION 'the start of the log moves only forward, onto an event';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER start_moves_onto_an_event BEFORE UPDATE ON helix.log
    FOR EACH ROW
    WHEN ((NEW.start_position, NEW.start_hash) IS DISTINCT FROM
          (OLD.start_position, OLD.start_hash))
    EXECUTE FUNCTION helix.check_start();

CREATE TRIGGER head_never_moves_back BEFORE UPDATE ON helix.log
    FOR EACH ROW WHEN (NEW.position < OLD.position)
    EXECUTE FUNCTION helix.refuse('the head of the log never moves back');

CREATE TABLE helix.receipts (
    key          text PRIMARY KEY,
    request_hash bytea NOT NULL CHECK (length(request_hash) = 32),
    body         bytea NOT NULL,
    at_ms        bigint NOT NULL,
    position     bigint NOT NULL
);

CREATE INDEX receipts_by_age ON helix.receipts (at_ms);

-- One row at most: only the newest snapshot is of use.
CREATE TABLE helix.snapshot (
    id       integer PRIMARY KEY CHECK (id = 1),
    position bigint NOT NULL,
    format   bigint NOT NULL,
    digest   bytea NOT NULL CHECK (length(digest) = 32),
    bytes    bytea NOT NULL
);

-- A released lease keeps its row, without a holder, because its epoch must grow.
CREATE TABLE helix.leases (
    name       text PRIMARY KEY,
    holder     text,
    epoch      bigint NOT NULL CHECK (epoch > 0),
    expires_at timestamptz NOT NULL
);

CREATE TABLE helix.sealed (
    id          text PRIMARY KEY,
    key_id      text NOT NULL,
    wrapped_key bytea NOT NULL,
    ciphertext  bytea NOT NULL
);

CREATE INDEX sealed_by_key ON helix.sealed (key_id);
