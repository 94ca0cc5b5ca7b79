-- $1 upload
SELECT count(*) FILTER (WHERE done) AS published, count(*) AS total
FROM upload_paths WHERE upload = $1
