-- The keys that seal the bodies of events, one for each UTC day (days since 1970-01-01), wrapped as the encryption
-- configuration says. A day whose key was dropped keeps its row, so that it never gets another key.
CREATE TABLE day_keys (
    day         bigint NOT NULL,
    id          uuid   NOT NULL,
    wrapped     bytea,
    created_at  bigint NOT NULL,
    shredded_at bigint,
    CONSTRAINT day_keys_pk PRIMARY KEY (day),
    CONSTRAINT day_keys_are_there_or_shredded CHECK ((wrapped IS NULL) = (shredded_at IS NOT NULL))
);
