-- Large NARs are sent in parts, and a store may be set to check SHA-256 in place of MD5.

-- Nothing was released with the old name, so no older server needs it any more.
ALTER TABLE objects RENAME COLUMN md5 TO checksum;
COMMENT ON COLUMN objects.checksum IS
  'of the one body that URLs were signed for: MD5 (16 bytes) or SHA-256 (32); none for parts';

-- A NAR that is being sent in parts. The row is there before S3 opens the multipart upload and until
-- it is completed or aborted: whatever crashes in between, what S3 keeps of it can be found.
CREATE TABLE multiparts (
  object_id   bigint PRIMARY KEY,       -- the NAR
  key         text NOT NULL,            -- of the same, should its row be gone before S3 has let go
  upload      bigint NOT NULL,          -- whose it is
  s3_id       text,                     -- S3's name of it, NULL until S3 has answered
  parts_asked boolean NOT NULL DEFAULT false   -- URLs of its parts have been given away
);
CREATE INDEX multiparts_upload ON multiparts (upload);
