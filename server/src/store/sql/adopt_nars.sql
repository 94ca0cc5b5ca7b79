-- $1 upload, $2 NarHashes
WITH found AS MATERIALIZED (
  SELECT h.hash, n.id, n.condemned_at
  FROM (SELECT DISTINCT unnest($2::text[]) AS hash) h
  CROSS JOIN LATERAL (
    SELECT n.id, n.condemned_at FROM objects n
    WHERE n.key >= 'nar/' || h.hash || '-' AND n.key < 'nar/' || h.hash || '.'
      AND n.stored_at IS NOT NULL AND n.claimed_at IS NULL
    ORDER BY n.stored_at, n.id LIMIT 1) n
), held AS (
  INSERT INTO holds (upload, object_id) SELECT $1, id FROM found ORDER BY id ON CONFLICT DO NOTHING
), revived AS (
  UPDATE objects n SET condemned_at = NULL
  FROM found f WHERE n.id = f.id AND f.condemned_at IS NOT NULL
)
SELECT hash FROM found
