-- $1 narinfos and attachments that we have sent, $2 until when they were writable then. Locked in one order: two that mark the
-- same ones do not dead-lock.
-- Only what still is as we took it: one that was found to be void while it was sent has another text to come,
-- and whoever took it after us says whether that was sent.
WITH s AS MATERIALIZED (
  SELECT o.id FROM unnest($1::bigint[], $2::bigint[]) AS i(id, until)
  JOIN objects o ON o.id = i.id
  WHERE o.stored_at IS NULL AND o.claimed_at IS NULL
    AND (extract(epoch FROM o.writable_until) * 1000000)::bigint = i.until
    AND coalesce((SELECT true FROM narinfos n WHERE n.object_id = o.id LIMIT 1),
                 (SELECT true FROM attachments a WHERE a.object_id = o.id LIMIT 1))
  ORDER BY o.id FOR NO KEY UPDATE OF o
)
UPDATE objects o SET stored_at = now() WHERE o.id = ANY (ARRAY(SELECT id FROM s))
RETURNING o.id
