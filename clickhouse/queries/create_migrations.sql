-- What has been done to this database: made before the first migration, so that each can be recorded. The row that says a
-- migration is complete replaces the one that says it was begun. Two rows of one version with different checksums mean that
-- it was begun with other statements: nobody can tell what is in the database, so that is refused.
-- ORDER BY: read whole, a few dozen rows.
CREATE TABLE IF NOT EXISTS footfall.migrations
(
    version     UInt32                 COMMENT 'The number its file begins with',
    name        String                 COMMENT 'The rest of the file''s name',
    checksum    String                 COMMENT 'SHA-256 of the file, hexadecimal',
    is_complete UInt8                  COMMENT '1 when all its statements have run; 0 when begun',
    applied_at  DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When this was recorded, by the store''s clock'
)
ENGINE = ReplacingMergeTree(is_complete)
ORDER BY (version, checksum)
