-- $1 narinfos and attachments that we have sent, $2 the versions of their texts. Locked in one order: two that mark
-- the same ones do not dead-lock.
-- Only what is still recorded as we sent it: one that was found to be void while it was sent has another text to
-- come. That others have taken the same text meanwhile does not matter: by their takings alone, many commits of
-- the same paths would void each other's notes for ever.
WITH s AS MATERIALIZED (
  SELECT o.id FROM unnest($1::bigint[], $2::bigint[]) AS i(id, version)
  JOIN objects o ON o.id = i.id
  WHERE o.stored_at IS NULL AND o.claimed_at IS NULL
    AND coalesce((SELECT n.version FROM narinfos n WHERE n.object_id = o.id LIMIT 1),
                 (SELECT a.version FROM attachments a WHERE a.object_id = o.id LIMIT 1)) = i.version
  ORDER BY o.id FOR NO KEY UPDATE OF o
)
UPDATE objects o SET stored_at = now() WHERE o.id = ANY (ARRAY(SELECT id FROM s))
RETURNING o.id
