-- $1 parameters, $2 progress
INSERT INTO collections (parameters, started_at, progress) VALUES ($1, now(), $2)
RETURNING number, extract(epoch FROM started_at)::float8
