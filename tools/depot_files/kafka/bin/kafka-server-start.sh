#!/bin/bash
# Runs a broker or controller in the foreground: kafka-server-start.sh FILE.properties [--override NAME=VALUE]...
set -euo pipefail

bin_dir=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
export KAFKA_HEAP_OPTS=${KAFKA_HEAP_OPTS:--Xms1G -Xmx1G}
export KAFKA_LOG4J_OPTS=${KAFKA_LOG4J_OPTS:--Dlog4j.configuration=file:${bin_dir%/bin}/config/log4j.properties}
exec "$bin_dir/kafka-run-class.sh" kafka.Kafka "$@"
