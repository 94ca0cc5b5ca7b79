-- $1 id, $2 caller, $3 seconds, $4 paths. Again, if the answer to its commit was lost.
INSERT INTO uploads (id, caller, state, created_at, expires_at, paths, roots)
VALUES ($1, $2, 0, now(), now() + make_interval(secs => $3), $4, '{}')
ON CONFLICT (id) DO UPDATE SET expires_at = uploads.expires_at WHERE uploads.caller = $2
RETURNING number, extract(epoch FROM expires_at)::float8
