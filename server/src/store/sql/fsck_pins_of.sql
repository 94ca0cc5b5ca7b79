-- $1 names
SELECT name, object_id, store_path,
       coalesce(filed = object_id, false) AND writing_until IS NULL AS in_sync,
       (extract(epoch FROM moved_at) * 1000000)::bigint AS moved
FROM unnest($1::text[]) AS n(given)
CROSS JOIN LATERAL (SELECT * FROM pins p WHERE p.name = n.given LIMIT 1) p
