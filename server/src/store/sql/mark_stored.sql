-- $1 narinfos that we have sent. Locked in one order: two that mark the same ones do not dead-lock.
-- Only what is composed: one that was found to be void while it was sent has another text to come.
WITH s AS MATERIALIZED (
  SELECT o.id FROM objects o
  WHERE o.id = ANY ($1) AND o.stored_at IS NULL AND o.claimed_at IS NULL
    AND (SELECT true FROM narinfos n WHERE n.object_id = o.id LIMIT 1)
  ORDER BY o.id FOR NO KEY UPDATE OF o
)
UPDATE objects o SET stored_at = now() WHERE o.id = ANY (ARRAY(SELECT id FROM s))
RETURNING o.id
