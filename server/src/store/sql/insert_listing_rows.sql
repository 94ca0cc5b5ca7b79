-- $1 keys. In their order: two uploads that insert the same ones do not dead-lock.
INSERT INTO objects (key, kind)
SELECT DISTINCT k.key, 3 FROM unnest($1::text[]) AS k(key)
WHERE (SELECT true FROM objects o WHERE o.key = k.key LIMIT 1) IS NULL
ORDER BY 1
ON CONFLICT (key) DO NOTHING
