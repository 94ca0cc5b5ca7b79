-- $1 upload, $2 narinfos that are published: their paths are done, and have their logs, and their listings if
-- those are of the contents that were composed
WITH d AS MATERIALIZED (
  SELECT p.ctid, p.object_id, p.nar_hash, p.listing_id, p.no_listing, p.log_id
  FROM unnest($2::bigint[]) AS i(id)
  CROSS JOIN LATERAL (
    SELECT p.ctid, p.* FROM upload_paths p WHERE p.upload = $1 AND p.object_id = i.id LIMIT 1) p
), fits AS MATERIALIZED (
  SELECT d.* FROM d
  CROSS JOIN LATERAL (
    SELECT n.nar_hash FROM narinfos n WHERE n.object_id = d.object_id LIMIT 1) n
  WHERE d.nar_hash = n.nar_hash
), attached AS (
  INSERT INTO refs (src, dst)
  SELECT a.src, a.dst FROM (
    SELECT f.object_id AS src, f.listing_id AS dst FROM fits f
    WHERE (SELECT l.describes FROM objects l WHERE l.id = f.listing_id LIMIT 1) = f.nar_hash
    UNION ALL
    SELECT d.object_id, d.log_id FROM d WHERE d.log_id IS NOT NULL) a
  -- only one that this upload holds: another may be condemned
  WHERE (SELECT true FROM holds h WHERE h.upload = $1 AND h.object_id = a.dst LIMIT 1)
  ORDER BY 1, 2                   -- two that attach the same ones do not dead-lock
  ON CONFLICT DO NOTHING
), locked AS MATERIALIZED (
  SELECT n.object_id FROM narinfos n
  WHERE n.object_id = ANY (ARRAY(SELECT object_id FROM fits WHERE no_listing)) AND NOT n.no_listing
  ORDER BY n.object_id FOR NO KEY UPDATE OF n
), unlistable AS (
  UPDATE narinfos n SET no_listing = true WHERE n.object_id = ANY (ARRAY(SELECT object_id FROM locked))
)
UPDATE upload_paths p SET done = true WHERE p.ctid = ANY (ARRAY(SELECT ctid FROM d))
