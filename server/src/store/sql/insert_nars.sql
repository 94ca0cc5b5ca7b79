-- $1 upload, $2 keys (random, so nobody else inserts them), $3 bytes, $4 checksums
WITH k AS MATERIALIZED (
  SELECT k.*, nextval(pg_get_serial_sequence('objects', 'id')) AS id
  FROM unnest($2::text[], $3::bigint[], $4::bytea[]) WITH ORDINALITY AS k(key, bytes, checksum, n)
), i AS (
  INSERT INTO objects (id, key, kind, size, checksum, writer) SELECT id, key, 2, bytes, checksum, $1 FROM k
)
SELECT id FROM k ORDER BY n
