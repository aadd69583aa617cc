"""What `footfall up` embeds in place of servers: a local broker and a local store."""
