"""`python -m pipeline` is `footfall`: how `up` starts the processes it consists of."""

from pipeline.cli import main

main()
