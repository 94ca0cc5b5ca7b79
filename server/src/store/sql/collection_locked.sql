-- $1, $2 the halves of the collection's lock, as PostgreSQL shows one of 64 bits
SELECT true FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 1
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND classid::bigint = $1 AND objid::bigint = $2
LIMIT 1
