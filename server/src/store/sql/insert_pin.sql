-- $1 name: a row for a pin that has none. The transaction says what it pins, or is rolled back.
INSERT INTO pins (name, created_at, moved_at) VALUES ($1, now(), now()) ON CONFLICT DO NOTHING
