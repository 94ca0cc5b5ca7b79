-- $1 NULL, or a name when the database is new and the bucket is not: see Generation::is_new. Nothing was written
-- down yet, unless another server has done it just now.
INSERT INTO identity (system, timeline, database, generation, generation_name)
SELECT c.system_identifier, k.timeline, d.oid, 0, $1::text
FROM pg_control_system() c
CROSS JOIN (SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int AS timeline) k
CROSS JOIN pg_database d
WHERE d.datname = current_database()
ON CONFLICT (one) DO NOTHING
