-- Each start of each instance, and what is known of it. It outlives the records.
CREATE TABLE boot (
    id             INTEGER NOT NULL,
    source         TEXT    NOT NULL,
    boot           BLOB    NOT NULL,
    previous_boot  BLOB,
    previous_seq   INTEGER,
    first_received INTEGER NOT NULL,
    last_received  INTEGER NOT NULL,
    duplicates     INTEGER NOT NULL DEFAULT 0,
    rejected       INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT boot_pk PRIMARY KEY (id),
    CONSTRAINT boot_of_a_source_once UNIQUE (source, boot),
    CONSTRAINT boot_previous_is_whole CHECK ((previous_boot IS NULL) = (previous_seq IS NULL))
) STRICT;

-- Which numbers of a boot arrived, as JSON ranges. A row covers 65,536 numbers, so that a batch writes little
-- however many holes wait to be filled.
CREATE TABLE seen (
    boot   INTEGER NOT NULL,
    chunk  INTEGER NOT NULL,
    ranges TEXT    NOT NULL,
    CONSTRAINT seen_pk PRIMARY KEY (boot, chunk),
    CONSTRAINT seen_of_a_boot FOREIGN KEY (boot) REFERENCES boot (id)
) STRICT, WITHOUT ROWID;
