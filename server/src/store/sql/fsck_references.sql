-- $1 how many: references from or to an object that has no row
SELECT coalesce(s.key, d.key, '') AS key, r.src AS id, r.dst AS other
FROM refs r LEFT JOIN objects s ON s.id = r.src LEFT JOIN objects d ON d.id = r.dst
WHERE s.id IS NULL OR d.id IS NULL
ORDER BY r.src, r.dst LIMIT $1
