-- $1 attachments, $2 the narinfos that they are of, $3 their texts, $4 the NARs that they name or NULL
WITH c AS MATERIALIZED (
  SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[]) AS c(id, narinfo_id, text, nar_id)
), composed AS (
  INSERT INTO attachments (object_id, narinfo_id, text) SELECT id, narinfo_id, text FROM c
  ON CONFLICT (object_id) DO UPDATE SET narinfo_id = excluded.narinfo_id, text = excluded.text,
    version = nextval('text_versions')
), stale AS (
  -- of an older text, which named a NAR that was lost
  DELETE FROM refs r WHERE r.ctid = ANY (ARRAY(
    SELECT r.ctid FROM c CROSS JOIN LATERAL (SELECT r.ctid, r.dst FROM refs r WHERE r.src = c.id) r
    WHERE r.dst IS DISTINCT FROM c.nar_id))
  RETURNING r.dst
), noted AS (
  INSERT INTO candidates SELECT DISTINCT dst FROM stale ORDER BY 1 ON CONFLICT DO NOTHING
), referring AS (
  INSERT INTO refs (src, dst)
  SELECT narinfo_id, id FROM c
  UNION
  SELECT id, nar_id FROM c WHERE nar_id IS NOT NULL
  ON CONFLICT DO NOTHING
), realised AS (
  UPDATE objects o SET is_realised = true
  WHERE o.id = ANY (ARRAY(SELECT narinfo_id FROM c WHERE nar_id IS NULL)) AND NOT o.is_realised
)
-- Nobody can write it, and what an older text of it was sent with is no news of this one.
UPDATE objects o SET stored_at = NULL, condemned_at = NULL, writable_until = NULL WHERE o.id = ANY ($1)
