-- $1 key of a narinfo
SELECT o.id, o.key, o.stored_at IS NOT NULL AS stored, o.claimed_at IS NOT NULL AS claimed,
       (SELECT true FROM closures c WHERE c.object_id = o.id LIMIT 1) IS NOT NULL AS pushed,
       (SELECT n.store_path FROM narinfos n WHERE n.object_id = o.id LIMIT 1) AS store_path
FROM objects o WHERE o.key = $1
