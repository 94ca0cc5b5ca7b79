-- $1 id, $2 caller, $3 seconds
INSERT INTO uploads (id, caller, state, created_at, expires_at, roots)
VALUES ($1, $2, 0, now(), now() + make_interval(secs => $3), '{}')
RETURNING number, extract(epoch FROM expires_at)::float8
