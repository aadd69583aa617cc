.PHONY: kafka

# The jars of the Apache Kafka that tests marked `kafka` run; they need Java 17 as well.
kafka: .kafka/libs/.complete

.kafka/libs/.complete: tests/kafka.pom.xml
	rm -rf .kafka/libs
	mvn -q -B -f $< dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/.kafka/libs
	touch $@
