-- $1 narinfos: their realisations, which are deleted before they are
SELECT d.id FROM unnest($1::bigint[]) AS i(id)
CROSS JOIN LATERAL (SELECT r.dst FROM refs r WHERE r.src = i.id OFFSET 0) r
CROSS JOIN LATERAL (SELECT d.id, d.kind FROM objects d WHERE d.id = r.dst LIMIT 1) d
WHERE d.kind IN (7, 8)
