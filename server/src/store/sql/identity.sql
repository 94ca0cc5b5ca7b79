-- Which PostgreSQL this is, and which one it was when it was last written down. The timeline as the write-ahead
-- log has it: the control file says it a checkpoint later.
SELECT c.system_identifier AS system, k.timeline, d.oid AS database,
       i.system AS known_system, i.timeline AS known_timeline, i.database AS known_database,
       i.generation, i.generation_name, i.next_name,
       (SELECT true FROM objects LIMIT 1) IS NULL AS empty
FROM pg_control_system() c
CROSS JOIN (SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int AS timeline) k
CROSS JOIN pg_database d
LEFT JOIN identity i ON true
WHERE d.datname = current_database()
