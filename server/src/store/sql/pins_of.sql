-- $1 closure: the pins that keep it, those included whose file may still name it
SELECT name FROM (
  SELECT name FROM pins WHERE object_id = $1
  UNION
  SELECT name FROM pins WHERE filed = $1) p
ORDER BY name
