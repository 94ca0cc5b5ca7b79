-- $1 upload, $2 NarHashes
SELECT coalesce(max(n.used), 0), coalesce(max(n.whole), 0)
FROM unnest($2::text[]) AS h(hash)
CROSS JOIN LATERAL (
  SELECT count(*) AS whole,
         count(*) FILTER (WHERE (SELECT true FROM multiparts m
                                 WHERE m.object_id = o.id AND NOT m.parts_asked LIMIT 1) IS NULL) AS used
  FROM objects o
  WHERE o.key >= 'nar/' || h.hash || '-' AND o.key < 'nar/' || h.hash || '.' AND o.writer = $1) n
