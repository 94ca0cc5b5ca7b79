-- $1 key, $2 kind, $3 bytes, $4 SHA-256 or NULL, $5 the NarHash that a listing describes, or NULL: an object that
-- was just seen in the bucket
INSERT INTO objects (key, kind, size, sha256, describes, stored_at) VALUES ($1, $2, $3, $4, $5, now())
ON CONFLICT (key) DO UPDATE
SET stored_at = coalesce(objects.stored_at, now()), size = excluded.size,
    sha256 = coalesce(excluded.sha256, objects.sha256),
    describes = coalesce(excluded.describes, objects.describes), condemned_at = NULL
WHERE objects.claimed_at IS NULL
RETURNING id
