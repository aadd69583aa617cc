"""The web process: page, query layer, collector. In reading order:

`app` puts it together; `connections` holds store and broker; `ranges` (pure) knows zones, ranges and buckets;
`parameters` what may be asked, `answers` what is said, `problems` what goes wrong; `analytics` asks
`clickhouse.analytics` and answers in JSON, `exports` in files; `collector` takes events; `page` serves the page;
`health` and `metrics` say how it is; `serve` runs it.
"""
