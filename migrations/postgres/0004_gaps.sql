-- Ranges that are known to be lost, of a boot or of a partition, with the reason.
CREATE TABLE gap (
    id        bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    source    text,
    boot      uuid,
    partition integer,
    first     bigint      NOT NULL,
    last      bigint      NOT NULL,
    reason    text        NOT NULL,
    at        timestamptz NOT NULL,
    CONSTRAINT gap_pk PRIMARY KEY (id),
    CONSTRAINT gap_goes_forward CHECK (first <= last),
    -- Two recorders may notice one gap.
    CONSTRAINT gap_once UNIQUE NULLS NOT DISTINCT (source, boot, partition, first, last, reason)
);
