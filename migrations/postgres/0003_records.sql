-- What many records share: where they came from and under which redaction rules. No row of it ever changes or goes,
-- so the records need no foreign key, which would cost a look-up each.
CREATE TABLE origin (
    id      integer NOT NULL GENERATED ALWAYS AS IDENTITY,
    boot    integer NOT NULL,
    cluster text    NOT NULL,
    rules   text    NOT NULL,
    CONSTRAINT origin_pk PRIMARY KEY (id),
    CONSTRAINT origin_once UNIQUE (boot, cluster, rules),
    CONSTRAINT origin_of_a_boot FOREIGN KEY (boot) REFERENCES boot (id)
);

-- The records, each once, in a partition for each UTC day: the first 48 bits of an id are the milliseconds of its time.
-- Partitions are made when the first record of their day comes.
-- Kinds: 0 audit, 1 access, 2 pipeline. What an event lacks is '' or 0, for a row without NULL is 8 bytes shorter.
-- An audit id is the byte 1 and a UUID's 16 bytes, or the byte 0 and text.
-- The typed columns may be cut short; the event is whole. Read them by the view `events`.
CREATE TABLE record (
    id          uuid        NOT NULL,
    at          timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    seq         bigint      NOT NULL,
    redactions  bigint      NOT NULL,
    origin      integer     NOT NULL,
    kind        smallint    NOT NULL,
    code        smallint    NOT NULL,
    audit_id    bytea       NOT NULL,
    verb        text        NOT NULL,
    username    text        NOT NULL,
    resource    text        NOT NULL,
    namespace   text        NOT NULL,
    name        text        NOT NULL,
    event       bytea       NOT NULL,
    CONSTRAINT record_pk PRIMARY KEY (id)
) PARTITION BY RANGE (id);

-- Events are packed already.
ALTER TABLE record ALTER COLUMN event SET STORAGE EXTERNAL;

-- How many records each UTC day holds.
CREATE TABLE day (
    day     date   NOT NULL,
    records bigint NOT NULL,
    CONSTRAINT day_pk PRIMARY KEY (day)
);
