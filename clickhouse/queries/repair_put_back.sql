-- Put a partition's position back: forget the ledger's rows that end later. Rewrites parts of the ledger.
ALTER TABLE footfall.ledger
DELETE WHERE topic = {topic:String} AND epoch = {epoch:UUID} AND partition = {partition:UInt32} AND next_offset > {position:UInt64}
SETTINGS mutations_sync = 2
