-- $1 objects, $2 SHA-256 of their bodies or NULL
UPDATE objects o SET stored_at = now(), sha256 = coalesce(s.sha256, o.sha256)
FROM (SELECT * FROM unnest($1::bigint[], $2::bytea[]) AS s(id, sha256) ORDER BY id) s
WHERE o.id = s.id AND o.stored_at IS NULL AND o.claimed_at IS NULL
