-- Requests of the gateway that died between their stages, as the start after them told.
CREATE TABLE unfinished (
    id       bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    received timestamptz NOT NULL,
    -- JSON.
    told     text        NOT NULL,
    CONSTRAINT unfinished_pk PRIMARY KEY (id)
);

CREATE INDEX unfinished_received ON unfinished (received);
