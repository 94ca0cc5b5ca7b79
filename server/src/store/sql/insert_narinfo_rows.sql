-- $1 keys, references first, $2 whether each is left to another cache: only a row that is new is
-- Looked for first: ON CONFLICT alone spends an id for each row that is there. Ids in the order given,
-- rows in the order of keys: two plans that insert the same keys wait for each other in one order.
WITH absent AS MATERIALIZED (
  SELECT k.key, k.external, k.n
  FROM unnest($1::text[], $2::boolean[]) WITH ORDINALITY AS k(key, external, n)
  WHERE (SELECT o.id FROM objects o WHERE o.key = k.key LIMIT 1) IS NULL
  ORDER BY k.n
), numbered AS MATERIALIZED (
  SELECT key, external, nextval(pg_get_serial_sequence('objects', 'id')) AS id FROM absent
)
INSERT INTO objects (id, key, kind, is_external)
SELECT id, key, 1, external FROM numbered ORDER BY key COLLATE "C"
ON CONFLICT (key) DO NOTHING
