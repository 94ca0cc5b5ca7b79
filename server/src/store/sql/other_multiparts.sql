-- $1 NARs that are stored, $2 how many: multipart uploads of the same contents, which nobody needs any more
SELECT m.object_id AS id, other.key, m.s3_id
FROM unnest($1::bigint[]) AS i(id)
CROSS JOIN LATERAL (SELECT o.key FROM objects o WHERE o.id = i.id AND o.kind = 2 LIMIT 1) o
CROSS JOIN LATERAL (
  SELECT n.id, n.key FROM objects n
  -- 'nar/<52 characters>' and what may follow it
  WHERE n.key >= left(o.key, 56) || '-' AND n.key < left(o.key, 56) || '.'
    AND n.id <> i.id AND n.stored_at IS NULL) other
CROSS JOIN LATERAL (SELECT * FROM multiparts m WHERE m.object_id = other.id LIMIT 1) m
LIMIT $2
