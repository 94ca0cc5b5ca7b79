-- $1 objects of the server's own. Locked in one order: two that mark the same ones do not dead-lock.
WITH s AS MATERIALIZED (
  SELECT o.id FROM objects o
  WHERE o.id = ANY ($1) AND o.stored_at IS NULL AND o.claimed_at IS NULL
  ORDER BY o.id FOR NO KEY UPDATE OF o
)
UPDATE objects o SET stored_at = now() WHERE o.id = ANY (ARRAY(SELECT id FROM s))
