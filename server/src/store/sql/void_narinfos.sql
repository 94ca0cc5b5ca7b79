-- $1 narinfos: what they say is void. They count as not published, and are composed anew, or adopted as the
-- bucket has them. What they referred to may be garbage now.
WITH locked AS MATERIALIZED (
  SELECT o.id FROM objects o
  WHERE o.id = ANY ($1) AND o.kind = 1 AND o.claimed_at IS NULL ORDER BY o.id FOR NO KEY UPDATE
), forgotten AS (
  DELETE FROM narinfos n WHERE n.object_id = ANY (ARRAY(SELECT id FROM locked))
), unlinked AS (
  DELETE FROM refs r WHERE r.src = ANY (ARRAY(SELECT id FROM locked)) RETURNING r.dst
), noted AS (
  INSERT INTO candidates
  SELECT DISTINCT c.id FROM (SELECT dst AS id FROM unlinked UNION SELECT id FROM locked) c
  WHERE (SELECT true FROM objects o WHERE o.id = c.id LIMIT 1)
  ORDER BY 1 ON CONFLICT DO NOTHING
)
UPDATE objects o SET stored_at = NULL WHERE o.id = ANY (ARRAY(SELECT id FROM locked))
RETURNING o.id
