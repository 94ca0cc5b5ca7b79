-- Texts that were signed anew, and that the bucket may have with their old signatures: `niks3-server resign`
-- sends them until it knows that they are there, also after it was killed.
CREATE TABLE resigned (object_id bigint PRIMARY KEY);
