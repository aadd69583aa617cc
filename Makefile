# What CI runs is what you run.
.PHONY: up test check unit interpreters kafka bench soak format

# Tests start hundreds of processes: without bytecode each compiles all of our packages.
unexport PYTHONDONTWRITEBYTECODE

UV_RUN = uv run --locked --extra embedded --group dev

up:  ## Start everything on this machine and say where the page is.
	uv run --locked --extra embedded footfall up

test:  ## Install what the tests need, then run them all.
	tests/set_up.sh
	$(MAKE) kafka
	$(UV_RUN) pytest -n 3 --dist loadfile --no-loadscope-reorder

unit:  ## The tests that need no broker, no browser, no store.
	$(UV_RUN) pytest tests/unit

check:  ## Formatting, lint, types, direction of imports, the lock.
	uv lock --check
	$(UV_RUN) ruff format --check
	$(UV_RUN) ruff check
	$(UV_RUN) mypy
	$(UV_RUN) lint-imports

interpreters:  ## The unit tests on every Python from 3.11 that is on this machine.
	tests/on_every_interpreter.sh $(INTERPRETERS)

bench: kafka  ## Measure everything (18 minutes, on a machine that does nothing else) and write down the results.
	for benchmark in start export freshness memory durability ingest; do \
		$(UV_RUN) --group bench python -m benchmarks.$$benchmark --write || exit 1; \
	done

soak: kafka  ## Let FAULTS faults strike while EVENTS events arrive (hours), and write the table in docs/faults.md.
	$(UV_RUN) python -m tests.faults.soak --faults $(or $(FAULTS),500) --events $(or $(EVENTS),2000000) \
		--minutes $(or $(MINUTES),240) $(if $(SEED),--seed $(SEED))

format:  ## Format, and mend what lint can mend.
	$(UV_RUN) ruff check --fix
	$(UV_RUN) ruff format

# The jars of the Apache Kafka that tests marked `kafka` run; they need Java 17 as well.
kafka: .kafka/libs/.complete

.kafka/libs/.complete: tests/kafka.pom.xml
	rm -rf .kafka/libs
	mvn -q -B -f $< dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/.kafka/libs
	touch $@
