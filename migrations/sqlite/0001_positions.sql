-- Where reading each partition of each log goes on. It moves in the transaction that keeps the records before it.
CREATE TABLE position (
    log       TEXT    NOT NULL,
    partition INTEGER NOT NULL,
    next      INTEGER NOT NULL,
    CONSTRAINT position_pk PRIMARY KEY (log, partition),
    CONSTRAINT position_next_is_an_offset CHECK (next >= 0)
) STRICT, WITHOUT ROWID;

-- The log that was read last: one row.
CREATE TABLE current_log (
    one INTEGER NOT NULL,
    log TEXT    NOT NULL,
    CONSTRAINT current_log_pk PRIMARY KEY (one),
    CONSTRAINT current_log_is_one CHECK (one = 1)
) STRICT;
