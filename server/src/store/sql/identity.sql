-- Which PostgreSQL this is, and which one it was when it was last written down.
SELECT c.system_identifier AS system, k.timeline_id AS timeline, d.oid AS database,
       i.system AS known_system, i.timeline AS known_timeline, i.database AS known_database,
       i.generation, i.generation_name, i.next_name
FROM pg_control_system() c
CROSS JOIN pg_control_checkpoint() k
CROSS JOIN pg_database d
LEFT JOIN identity i ON true
WHERE d.datname = current_database()
