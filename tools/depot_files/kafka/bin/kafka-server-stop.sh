#!/bin/bash
# Asks every broker and controller of this host to shut down in order.
if ! pkill -TERM -f 'java .* kafka\.Kafka '; then
  echo "No kafka server to stop" >&2
  exit 1
fi
