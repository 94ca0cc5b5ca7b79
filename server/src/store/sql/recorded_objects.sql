-- $1 keys of narinfos, $2 keys of their listings: what of them and their NARs is said to be in the bucket,
-- and since when, to the microsecond: an object that was sent again since is another one
SELECT DISTINCT o.id, o.key, o.size,
       (extract(epoch FROM o.stored_at) * 1000000)::bigint AS stored
FROM unnest($1::text[], $2::text[]) AS k(narinfo, listing)
CROSS JOIN LATERAL (
  SELECT o.* FROM objects o WHERE o.key = k.narinfo
  UNION ALL
  SELECT l.* FROM objects l WHERE l.key = k.listing
  UNION ALL
  -- logs, realisations, debug info
  SELECT a.* FROM objects p
  CROSS JOIN LATERAL (SELECT r.dst FROM refs r WHERE r.src = p.id OFFSET 0) r
  CROSS JOIN LATERAL (SELECT a.* FROM objects a WHERE a.id = r.dst LIMIT 1) a
  WHERE p.key = k.narinfo AND a.kind > 5
  UNION ALL
  SELECT n.* FROM objects p
  CROSS JOIN LATERAL (SELECT c.nar_id FROM narinfos c WHERE c.object_id = p.id LIMIT 1) c
  CROSS JOIN LATERAL (SELECT n.* FROM objects n WHERE n.id = c.nar_id LIMIT 1) n
  WHERE p.key = k.narinfo) o
WHERE o.stored_at IS NOT NULL AND o.claimed_at IS NULL
