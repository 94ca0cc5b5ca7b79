INSERT INTO upload_attachments (upload, object_id, narinfo_id, level, signatures, dependencies)
SELECT $1, id, narinfo_id, level, signatures, dependencies
FROM unnest($2::bigint[], $3::bigint[], $4::int[], $5::text[], $6::text[])
  AS a(id, narinfo_id, level, signatures, dependencies)
ON CONFLICT (upload, object_id) DO NOTHING
