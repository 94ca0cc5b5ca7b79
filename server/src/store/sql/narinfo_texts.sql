-- $1 narinfos
SELECT n.object_id AS id, n.narinfo FROM unnest($1::bigint[]) AS i(id)
CROSS JOIN LATERAL (SELECT * FROM narinfos n WHERE n.object_id = i.id LIMIT 1) n
