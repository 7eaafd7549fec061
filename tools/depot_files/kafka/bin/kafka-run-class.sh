#!/bin/bash
# Runs a class with every jar of libs/ on its class path: kafka-run-class.sh CLASS [ARGUMENT...]
#
# Plantline's own launcher, used where the official archive cannot be fetched. It honours the official
# one's environment: JAVA_HOME, CLASSPATH, LOG_DIR, JMX_PORT and KAFKA_{HEAP,JVM_PERFORMANCE,LOG4J,JMX}_OPTS,
# KAFKA_OPTS. The *_OPTS are split at blanks, as there.
set -euo pipefail

if [ $# -eq 0 ]; then
  echo "usage: ${0##*/} CLASS [ARGUMENT...]" >&2
  exit 1
fi

base_dir=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
java=${JAVA_HOME:+$JAVA_HOME/bin/}java

heap=${KAFKA_HEAP_OPTS:--Xmx512M}
performance=${KAFKA_JVM_PERFORMANCE_OPTS:--server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true}
log4j=${KAFKA_LOG4J_OPTS:--Dlog4j.configuration=file:$base_dir/config/tools-log4j.properties}
jmx=${KAFKA_JMX_OPTS:-}
if [ -n "${JMX_PORT:-}" ]; then
  jmx=${jmx:--Dcom.sun.management.jmxremote -Dcom.sun.management.jmxremote.authenticate=false -Dcom.sun.management.jmxremote.ssl=false}
  jmx="$jmx -Dcom.sun.management.jmxremote.port=$JMX_PORT -Dcom.sun.management.jmxremote.rmi.port=$JMX_PORT"
fi

export CLASSPATH="${CLASSPATH:+$CLASSPATH:}$base_dir/libs/*"
# shellcheck disable=SC2086  # the options are lists
exec "$java" $heap $performance $jmx -Dkafka.logs.dir="${LOG_DIR:-$base_dir/logs}" $log4j ${KAFKA_OPTS:-} "$@"
