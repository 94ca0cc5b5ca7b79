-- The last run, and whether somebody works on it: then a session has the collection's lock ($1, $2: its two
-- halves).
SELECT c.number, c.parameters, c.progress, c.error,
       extract(epoch FROM c.started_at)::float8 AS started_at,
       extract(epoch FROM c.finished_at)::float8 AS finished_at,
       coalesce((SELECT true FROM pg_locks l
                 WHERE l.locktype = 'advisory' AND l.granted
                   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                   AND l.classid::bigint = $1 AND l.objid::bigint = $2 AND l.objsubid = 1 LIMIT 1),
                false) AS locked
FROM collections c ORDER BY c.number DESC LIMIT 1
