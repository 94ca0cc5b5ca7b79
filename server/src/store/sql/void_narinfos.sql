-- $1 narinfos: what they say is void. They count as not published, and are composed anew, or adopted as the
-- bucket has them. What they referred to may be garbage now.
WITH locked AS MATERIALIZED (
  SELECT o.id FROM objects o
  WHERE o.id = ANY ($1) AND o.kind = 1 AND o.claimed_at IS NULL ORDER BY o.id FOR NO KEY UPDATE
), forgotten AS (
  DELETE FROM narinfos n WHERE n.object_id = ANY (ARRAY(SELECT id FROM locked))
), unlinked AS (
  -- Not those to other narinfos that are there: see void_compositions.sql
  DELETE FROM refs r WHERE r.ctid = ANY (ARRAY(
    SELECT r.ctid FROM locked l CROSS JOIN LATERAL (SELECT r.ctid, r.dst FROM refs r WHERE r.src = l.id) r
    WHERE coalesce((SELECT o.kind FROM objects o WHERE o.id = r.dst LIMIT 1), 0) <> 1))
  RETURNING r.dst
), noted AS (
  INSERT INTO candidates
  SELECT DISTINCT c.id FROM (SELECT dst AS id FROM unlinked UNION SELECT id FROM locked) c
  WHERE (SELECT true FROM objects o WHERE o.id = c.id LIMIT 1)
  ORDER BY 1 ON CONFLICT DO NOTHING
)
UPDATE objects o SET stored_at = NULL WHERE o.id = ANY (ARRAY(SELECT id FROM locked))
RETURNING o.id
