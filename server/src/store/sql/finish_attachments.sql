-- $1 upload, $2 attachments that are not this upload's to publish
UPDATE upload_attachments u SET done = true WHERE u.upload = $1 AND u.object_id = ANY ($2)
