-- $1 narinfos: those of them that are not said to be in the bucket, that nobody has composed, and that
-- nobody can write, unless $2, or will compose as things are
SELECT o.id FROM unnest($1::bigint[]) AS i(id)
CROSS JOIN LATERAL (
  SELECT o.id FROM objects o
  WHERE o.id = i.id AND o.kind = 1 AND o.stored_at IS NULL AND o.claimed_at IS NULL
    AND ($2::boolean OR o.writable_until IS NULL OR o.writable_until < clock_timestamp()) LIMIT 1) o
WHERE (SELECT true FROM narinfos n WHERE n.object_id = o.id LIMIT 1) IS NULL
  AND (SELECT true FROM holds h JOIN uploads u ON u.number = h.upload
       WHERE h.object_id = o.id AND u.state = 0 LIMIT 1) IS NULL
