"""What `footfall up` runs: the parts of Footfall, and a broker and a store in place of servers.

`up` starts all of it; `supervise` keeps each part running, as a `child` that dies with us. The packaged `broker` stands
behind a `gate`; `trial` is both, replaced when it is full, and `drain` says what it holds that is not in the store yet.
`kafka` is an Apache Kafka in its place. The `store` answers over HTTP, with chDB as its `engine`, and looks at a
`statement` first. `lock` keeps a data directory for one process.
"""
