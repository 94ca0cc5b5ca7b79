-- $1 upload, $2 keys (random, so nobody else inserts them): NARs that will be sent in parts
WITH k AS MATERIALIZED (
  SELECT k.*, nextval(pg_get_serial_sequence('objects', 'id')) AS id
  FROM unnest($2::text[]) WITH ORDINALITY AS k(key, n)
), o AS (
  INSERT INTO objects (id, key, kind, writer) SELECT id, key, 2, $1 FROM k
), m AS (
  INSERT INTO multiparts (object_id, key, upload) SELECT id, key, $1 FROM k
)
SELECT id FROM k ORDER BY n
