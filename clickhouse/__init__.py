"""Where it rests: migrations, queries, and the only code that imports clickhouse_connect.

`client` connects and maps the store's errors; `migrate` applies `migrations/NNNN_*.sql`; every query is a file in
`queries/` behind one typed function.
"""
