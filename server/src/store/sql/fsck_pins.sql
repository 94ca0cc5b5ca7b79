-- $1 after which name, $2 how many
SELECT name, object_id, store_path,
       coalesce(filed = object_id, false) AND writing_until IS NULL AS in_sync,
       (extract(epoch FROM moved_at) * 1000000)::bigint AS moved
FROM pins WHERE name > $1 ORDER BY name LIMIT $2
