-- $1 generation, $2 its name: this PostgreSQL it is from now on
INSERT INTO identity (system, timeline, database, generation, generation_name)
SELECT c.system_identifier, k.timeline, d.oid, $1, $2
FROM pg_control_system() c
CROSS JOIN (SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int AS timeline) k
CROSS JOIN pg_database d
WHERE d.datname = current_database()
ON CONFLICT (one) DO UPDATE
SET system = excluded.system, timeline = excluded.timeline, database = excluded.database,
    generation = excluded.generation, generation_name = excluded.generation_name, next_name = NULL
