-- The months (UTC) that a table has rows of, and how many. Reads one column of it.
SELECT toYYYYMM({time:Identifier}), count() FROM footfall.{table:Identifier} GROUP BY 1 ORDER BY 1
