-- Mutations of our tables that are not done, each with how it failed (0 and '' where it did not).
-- Reads the few entries of system.mutations.
SELECT toInt32OrZero(extract(latest_fail_reason, 'Code: ([0-9]+)')), latest_fail_reason FROM system.mutations WHERE database = 'footfall' AND NOT is_done
