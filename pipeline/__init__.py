"""What happens to an event, in reading order.

    topics       a topic on the broker, and which life of it this is (its epoch)
    transport    Faust delivers one event per poll and topic: a batch of records by partition
    batches      that batch; `agents/` take it through the stages below, which `flow` holds for one topic
    decode       bytes become an event, or a `dead_letter` with its reason
    enrich       an event becomes a row, with `address`, place (`geography`), `browser` and client class
    deduplicate  a producer's retry is told from a new event while its interval is open
    window       open intervals are counted in cells, fenced by offset
    sink         dead letters, rows, cells, ledger: one order of effects, the ledger last
    seal         each interval's rollup is written from deduplicated raw rows, again whenever one comes late
    web          the API and the page read rollups, cells and raw rows

`worker` runs all of that but the last, on the Faust `app`; `insist` repeats what store or broker do not do, `progress`
knows how far each partition has been consumed, `metrics` and `logs` say it.

The other commands, which `cli` names and `commands` calls: `migrate`; `audit` with its `audit_report` and `repair`;
`dead_letters`; `replay` (of `replay_formats`) and `simulate` (of a `population`), which `publish` what they make;
`embedded/` is `up`, with a broker and a store for one machine. `config` holds every setting.
"""
