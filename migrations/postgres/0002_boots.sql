-- Each start of each instance, and what is known of it. It outlives the records.
CREATE TABLE boot (
    id             integer     NOT NULL GENERATED ALWAYS AS IDENTITY,
    source         text        NOT NULL,
    boot           uuid        NOT NULL,
    previous_boot  uuid,
    previous_seq   bigint,
    first_received timestamptz NOT NULL,
    last_received  timestamptz NOT NULL,
    duplicates     bigint      NOT NULL DEFAULT 0,
    rejected       bigint      NOT NULL DEFAULT 0,
    CONSTRAINT boot_pk PRIMARY KEY (id),
    CONSTRAINT boot_of_a_source_once UNIQUE (source, boot),
    CONSTRAINT boot_previous_is_whole CHECK ((previous_boot IS NULL) = (previous_seq IS NULL))
);

-- Which numbers of a boot arrived, as JSON ranges. A row covers 65,536 numbers, so that a batch writes little
-- however many holes wait to be filled. The row of the boot is locked while they change.
CREATE TABLE seen (
    boot   integer NOT NULL,
    chunk  bigint  NOT NULL,
    ranges text    NOT NULL,
    CONSTRAINT seen_pk PRIMARY KEY (boot, chunk),
    CONSTRAINT seen_of_a_boot FOREIGN KEY (boot) REFERENCES boot (id)
);
