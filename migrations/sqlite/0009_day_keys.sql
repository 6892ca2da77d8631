-- The keys that seal the bodies of events, one for each UTC day (days since 1970-01-01), wrapped as the encryption
-- configuration says. A day whose key was dropped keeps its row, so that it never gets another key.
CREATE TABLE day_keys (
    day         INTEGER NOT NULL,
    id          BLOB    NOT NULL,
    wrapped     BLOB,
    created_at  INTEGER NOT NULL,
    shredded_at INTEGER,
    CONSTRAINT day_keys_pk PRIMARY KEY (day),
    CONSTRAINT day_keys_id_is_uuid CHECK (length(id) = 16),
    CONSTRAINT day_keys_are_there_or_shredded CHECK ((wrapped IS NULL) = (shredded_at IS NOT NULL))
) STRICT;
