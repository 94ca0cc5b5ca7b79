SELECT number, parameters, progress, error,
       extract(epoch FROM started_at)::float8 AS started_at,
       extract(epoch FROM finished_at)::float8 AS finished_at
FROM collections ORDER BY number DESC LIMIT 1
