"""What happens to an event, in reading order.

    topics       a topic on the broker, and which life of it this is (its epoch)
    transport    Faust delivers one event per poll and topic: a batch of records by partition
    batches      that batch; `agents/` take it through the stages below, which `flow` holds for one topic
    decode       bytes become an event, or a dead letter with its reason
    enrich       address, place, browser, client class; `rows` puts them in the order of the table
    deduplicate  a producer's retry is told from a new event while its interval is open
    window       open intervals are counted in cells, fenced by offset
    sink         dead letters, rows, cells, ledger: one order of effects, the ledger last
    seal         each interval's rollup is written from deduplicated raw rows, again whenever one comes late
    web          the API and the page read rollups, cells and raw rows

`worker` runs all of that but the last; `embedded/` is a broker and a store for one machine; `cli` starts things.
"""
