-- Requests of the gateway that died between their stages, as the start after them told.
CREATE TABLE unfinished (
    id       INTEGER NOT NULL,
    received INTEGER NOT NULL,
    -- JSON.
    told     TEXT    NOT NULL,
    CONSTRAINT unfinished_pk PRIMARY KEY (id)
) STRICT;

CREATE INDEX unfinished_received ON unfinished (received);
