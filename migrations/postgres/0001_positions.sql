-- Where reading each partition of each log goes on. It moves in the transaction that keeps the records before it.
CREATE TABLE position (
    log       text    NOT NULL,
    partition integer NOT NULL,
    next      bigint  NOT NULL,
    CONSTRAINT position_pk PRIMARY KEY (log, partition),
    CONSTRAINT position_next_is_an_offset CHECK (next >= 0)
);

-- The log that was read last: one row.
CREATE TABLE current_log (
    one boolean NOT NULL,
    log text    NOT NULL,
    CONSTRAINT current_log_pk PRIMARY KEY (one),
    CONSTRAINT current_log_is_one CHECK (one)
);
