-- A month that is over, in one part: rows of one merged part need not be looked through for copies when they are read (FINAL),
-- and fewer parts take less to begin with. A month in which nothing was written for three days is merged whole, once; what comes
-- to it later waits in parts of its own until three days are quiet again.
ALTER TABLE footfall.bot_requests     MODIFY SETTING min_age_to_force_merge_seconds = 259200, min_age_to_force_merge_on_partition_only = 1;
ALTER TABLE footfall.token_usages     MODIFY SETTING min_age_to_force_merge_seconds = 259200, min_age_to_force_merge_on_partition_only = 1;
ALTER TABLE footfall.bot_feedback     MODIFY SETTING min_age_to_force_merge_seconds = 259200, min_age_to_force_merge_on_partition_only = 1;
ALTER TABLE footfall.bot_requests_15m MODIFY SETTING min_age_to_force_merge_seconds = 259200, min_age_to_force_merge_on_partition_only = 1;
ALTER TABLE footfall.token_usages_15m MODIFY SETTING min_age_to_force_merge_seconds = 259200, min_age_to_force_merge_on_partition_only = 1;
