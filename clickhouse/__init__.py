"""Where it rests: migrations, queries, and the only code that imports clickhouse_connect.

`client` connects and maps the store's errors; `migrate` applies `migrations/NNNN_*.sql`. Every query is a file in
`queries/` behind one typed function: in `ledger` what workers write and read back, in `sealing` the sealer's, in
`analytics` those of the API, in `audit`, `repair` and `dead_letters` those of the commands of that name.
"""
