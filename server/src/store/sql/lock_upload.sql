-- $1 id, $2 caller, $3 seconds. The update is the lock, and a sign of life.
UPDATE uploads
SET expires_at = CASE WHEN state = 0
                      THEN greatest(expires_at, now() + make_interval(secs => $3))
                      ELSE expires_at END,
    called_at = now()
WHERE id = $1 AND caller = $2
RETURNING number, state, extract(epoch FROM expires_at)::float8
