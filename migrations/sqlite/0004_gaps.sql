-- Ranges that are known to be lost, of a boot or of a partition, with the reason.
CREATE TABLE gap (
    id        INTEGER NOT NULL,
    source    TEXT,
    boot      BLOB,
    partition INTEGER,
    first     INTEGER NOT NULL,
    last      INTEGER NOT NULL,
    reason    TEXT    NOT NULL,
    at        INTEGER NOT NULL,
    CONSTRAINT gap_pk PRIMARY KEY (id),
    CONSTRAINT gap_goes_forward CHECK (first <= last)
) STRICT;

-- Two recorders may notice one gap.
CREATE UNIQUE INDEX gap_once
    ON gap (coalesce(source, ''), coalesce(boot, x''), coalesce(partition, -1), first, last, reason);
