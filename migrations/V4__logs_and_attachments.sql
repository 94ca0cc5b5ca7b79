-- What a path carries besides its NAR: build logs, which clients send like listings; and attachments,
-- small texts that the server writes: realisations and debug info.

-- What an open upload says of a path's log: whether it has one, and the object once that is stored.
ALTER TABLE upload_paths ADD COLUMN has_log boolean NOT NULL DEFAULT false;
ALTER TABLE upload_paths ADD COLUMN log_id bigint;
-- One log is that of all outputs of a derivation.
CREATE INDEX upload_paths_log ON upload_paths (deriver, upload) WHERE has_log;

COMMENT ON COLUMN objects.describes IS
  'a listing: the NarHash (base 32) that it is of; a log: the derivation';

-- The texts of attachments: what each says from when it is composed until its object is deleted, as
-- `narinfos` has those of narinfos. `narinfo_id` is the path that it is of.
CREATE TABLE attachments (
  object_id  bigint PRIMARY KEY,
  narinfo_id bigint NOT NULL,
  text       text NOT NULL
);

-- Each text that is recorded has another number: who has sent one notes it only if it is still what is recorded.
-- Older ones have 0; a default that is not constant would have the whole table written anew.
CREATE SEQUENCE text_versions;
ALTER TABLE narinfos ADD COLUMN version bigint NOT NULL DEFAULT 0;
ALTER TABLE narinfos ALTER COLUMN version SET DEFAULT nextval('text_versions');
ALTER TABLE attachments ADD COLUMN version bigint NOT NULL DEFAULT nextval('text_versions');
CREATE INDEX attachments_narinfo ON attachments (narinfo_id);

-- What an open upload says of attachments that are missing. They are published after all of its narinfos.
CREATE TABLE upload_attachments (
  upload       bigint NOT NULL,
  object_id    bigint NOT NULL,
  narinfo_id   bigint NOT NULL,          -- the path that it is of
  level        integer NOT NULL,         -- that of the path within the plan
  signatures   text NOT NULL,            -- of a realisation: those that it has, between spaces
  dependencies text NOT NULL,            -- of a realisation: JSON, outputs and the paths that they are
  done         boolean NOT NULL DEFAULT false,
  PRIMARY KEY (upload, object_id)
);
CREATE INDEX upload_attachments_to_do ON upload_attachments (upload, level, object_id) WHERE NOT done;

-- A path that another cache has signed and that this one leaves to it: a narinfo of which there is nothing in
-- the bucket. It counts as published. Ordinary when it is really pushed.
ALTER TABLE objects ADD COLUMN is_external boolean NOT NULL DEFAULT false;

-- A narinfo with realisations, which are deleted before it is: asked only of those.
ALTER TABLE objects ADD COLUMN is_realised boolean NOT NULL DEFAULT false;
