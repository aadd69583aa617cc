"""What is fast, and how that is known: each module measures one thing, and runs by itself in any size.

    ingest       CPU per event and events per second, beside what one would write instead (`peers/`)
    freshness    time from a 202 until an answer of the API holds the event
    memory       a worker's resident memory over millions of events
    export       rows and bytes per second, beside the store's own answer, and what the API's memory grows by
    page         how long the questions of the page take over 90 days of a hundred million requests, by how many readers
    audit        how long `footfall audit` takes over as many, and in what memory
    start        time from the command until it is ready, and until the page shows something

`population` makes the events, `harness` starts, watches and reports. Everything runs on this machine, through the
command `footfall`, on ports of 127.0.0.1 alone.
"""
