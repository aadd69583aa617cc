-- What `footfall dead-letters replay` needs beside a dead letter's bytes: the record's key, so that what is published again goes
-- to the partition that its sender's retries go to.
ALTER TABLE footfall.dead_letters
    ADD COLUMN IF NOT EXISTS key_base64 Nullable(String) EPHEMERAL,
    ADD COLUMN IF NOT EXISTS key Nullable(String) DEFAULT base64Decode(key_base64)
        COMMENT 'Original key, cut where it would not fit; null: it had none, or it was refused before this column was there';
