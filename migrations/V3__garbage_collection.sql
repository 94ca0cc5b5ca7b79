-- What garbage collection, pins and fsck need. docs/gc.md says why it is safe.

-- A claim: the one collector's batch that may delete this object now, and until when a request of it
-- can still be on its way. Rows are deleted by the claim's token alone.
ALTER TABLE objects ADD COLUMN claim bigint;
ALTER TABLE objects ADD COLUMN claim_until timestamptz;
CREATE SEQUENCE claims;
-- The sweep's queue, and what a collector that died has left. By id: an index on the time itself would
-- not give the order that the sweep wants.
CREATE INDEX objects_condemned ON objects (id) WHERE condemned_at IS NOT NULL;
CREATE INDEX objects_claimed ON objects (id) WHERE claimed_at IS NOT NULL;

-- The last sign of life of a push.
ALTER TABLE uploads ADD COLUMN called_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX uploads_silent ON uploads (called_at) WHERE state = 0;
-- What ended is looked through for what a crash has left of it, and forgotten some time later.
CREATE INDEX uploads_ended ON uploads (called_at) WHERE state <> 0;

-- How large a closure is, counted when somebody asks, and anew after each push of it.
ALTER TABLE closures ADD COLUMN paths bigint;
ALTER TABLE closures ADD COLUMN bytes bigint;

-- A name for a closure, which then does not expire. The file pins/<name> in the bucket follows: it is
-- right when `filed` is `object_id` and nobody may be writing it. At no time does it name anything but
-- one of the two.
CREATE TABLE pins (
  name          text COLLATE "C" PRIMARY KEY,
  object_id     bigint,                 -- the closure; NULL while the pin is being deleted
  store_path    text,                   -- its base name, which outlives a narinfo that is lost
  filed         bigint,                 -- the closure that the file names, or named; NULL: no file yet
  writing_until timestamptz,            -- somebody may be able to write the file until
  created_at    timestamptz NOT NULL,
  moved_at      timestamptz NOT NULL
);
CREATE INDEX pins_object ON pins (object_id);
CREATE INDEX pins_filed ON pins (filed);

-- Runs of garbage collection: the last is what people are shown.
CREATE TABLE collections (
  number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  parameters  jsonb NOT NULL,           -- CollectRequest in core/src/wire/gc.rs
  started_at  timestamptz NOT NULL,
  finished_at timestamptz,
  progress    jsonb NOT NULL,           -- CollectProgress
  error       text
);

-- Which PostgreSQL wrote this, and what the bucket has to show for it. When either does not fit, the
-- database or the bucket is older than the other, and nothing is collected.
CREATE TABLE identity (
  one             boolean PRIMARY KEY DEFAULT true CHECK (one),
  system          bigint NOT NULL,      -- pg_control_system().system_identifier
  timeline        integer NOT NULL,     -- pg_control_checkpoint().timeline_id
  database        oid NOT NULL,
  generation      bigint NOT NULL,      -- the last one that is in the bucket; 0: none yet
  generation_name text,                 -- its random part
  next_name       text                  -- of the one after it, before it is in the bucket
);

-- How many objects are stored, and their bytes: the sum of these rows. Only inserted, so that no two
-- transactions wait for each other; added up now and then.
CREATE TABLE count_changes (objects bigint NOT NULL, bytes bigint NOT NULL);
INSERT INTO count_changes
SELECT count(*), coalesce(sum(size), 0) FROM objects WHERE stored_at IS NOT NULL;

-- A trigger, so that whatever stores, loses or deletes an object is counted, fsck and administrators
-- included.
CREATE FUNCTION count_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO count_changes
  SELECT count(*), coalesce(sum(size), 0) FROM new_rows WHERE stored_at IS NOT NULL HAVING count(*) > 0;
  RETURN NULL;
END $$;
CREATE FUNCTION count_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO count_changes
  SELECT objects, bytes FROM (
    SELECT sum(n)::bigint AS objects, coalesce(sum(n * size), 0)::bigint AS bytes FROM (
      SELECT 1 AS n, size FROM new_rows WHERE stored_at IS NOT NULL
      UNION ALL
      SELECT -1, size FROM old_rows WHERE stored_at IS NOT NULL) changed) total
  WHERE objects <> 0 OR bytes <> 0;
  RETURN NULL;
END $$;
CREATE FUNCTION count_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO count_changes
  SELECT -count(*), -coalesce(sum(size), 0) FROM old_rows WHERE stored_at IS NOT NULL HAVING count(*) > 0;
  RETURN NULL;
END $$;
CREATE TRIGGER objects_inserted AFTER INSERT ON objects
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_inserted();
CREATE TRIGGER objects_updated AFTER UPDATE ON objects
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_updated();
CREATE TRIGGER objects_deleted AFTER DELETE ON objects
  REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION count_deleted();
