-- What many records share: where they came from and under which redaction rules. No row of it ever changes or goes,
-- so the records need no foreign key, which would cost a look-up each.
CREATE TABLE origin (
    id      INTEGER NOT NULL,
    boot    INTEGER NOT NULL,
    cluster TEXT    NOT NULL,
    rules   TEXT    NOT NULL,
    CONSTRAINT origin_pk PRIMARY KEY (id),
    CONSTRAINT origin_once UNIQUE (boot, cluster, rules),
    CONSTRAINT origin_of_a_boot FOREIGN KEY (boot) REFERENCES boot (id)
) STRICT;

-- The records, each once, in the order of their ids, which is that of their time.
-- Times are microseconds since 1970, UTC. Kinds: 0 audit, 1 access, 2 pipeline. What an event lacks is '' or 0.
-- An audit id is the byte 1 and a UUID's 16 bytes, or the byte 0 and text.
-- The typed columns may be cut short; the event is whole. Read them by the view `events`.
CREATE TABLE record (
    id          BLOB    NOT NULL,
    origin      INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    redactions  INTEGER NOT NULL,
    code        INTEGER NOT NULL,
    audit_id    BLOB    NOT NULL,
    verb        TEXT    NOT NULL,
    username    TEXT    NOT NULL,
    resource    TEXT    NOT NULL,
    namespace   TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    event       BLOB    NOT NULL,
    CONSTRAINT record_pk PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;

-- How many records each UTC day holds, counted from 1970-01-01.
CREATE TABLE day (
    day     INTEGER NOT NULL,
    records INTEGER NOT NULL,
    CONSTRAINT day_pk PRIMARY KEY (day)
) STRICT;
