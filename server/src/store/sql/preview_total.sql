-- $1 seconds of grace, $2 whether there is none for what would be condemned now
WITH w AS MATERIALIZED (
  SELECT o.id, CASE WHEN o.stored_at IS NULL THEN 0 ELSE coalesce(o.size, 0) END AS bytes,
         o.writable_until >= now() AS writable
  FROM would_condemn w CROSS JOIN LATERAL (SELECT * FROM objects o WHERE o.id = w.id LIMIT 1) o
), d AS MATERIALIZED (
  SELECT o.id, CASE WHEN o.stored_at IS NULL THEN 0 ELSE coalesce(o.size, 0) END AS bytes,
         o.writable_until >= now() AS writable
  FROM objects o
  WHERE o.condemned_at IS NOT NULL AND o.condemned_at <= now() - make_interval(secs => $1)
  UNION ALL
  SELECT * FROM w WHERE $2
)
SELECT (SELECT count(*) FROM w), (SELECT coalesce(sum(bytes), 0)::bigint FROM w),
       (SELECT count(*) FROM d WHERE writable IS NOT TRUE),
       (SELECT coalesce(sum(bytes), 0)::bigint FROM d WHERE writable IS NOT TRUE),
       (SELECT count(*) FROM d WHERE writable)
