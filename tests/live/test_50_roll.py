"""A changed setting reaches every broker by restarts that no client notices."""

import json
import threading
import time

from confluent_kafka.admin import AdminClient
from conftest import note, on, playbook

from flink_jobs import contracts
from flink_jobs.tools.kafka import Publisher, read_all

HOSTS = ["node1", "node2", "node3"]
TOPIC = contracts.EVENTS


class Traffic:
    """A producer with acks=all that never stops, and the fewest replicas in sync ever seen."""

    def __init__(self, client):
        self.mark = f"roll-{time.time_ns()}"
        self.sent = 0
        self.fewest_in_sync = 99
        self._client = client
        self._stop = threading.Event()
        self._errors = []
        self._threads = [threading.Thread(target=t) for t in (self._produce, self._watch)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def failed(self):
        return self._errors

    def _produce(self):
        try:
            with Publisher(self._client) as publisher:
                while not self._stop.wait(0.01):
                    event = {"event_id": f"{self.mark}-{self.sent}", "machine_id": self.mark}
                    publisher.send(TOPIC, self.mark.encode(), json.dumps(event).encode())
                    publisher.poll()
                    self.sent += 1
        except Exception as error:
            self._errors.append(error)

    def _watch(self):
        admin = AdminClient({k: v for k, v in self._client.items() if k != "partitioner"})
        while not self._stop.wait(0.2):
            partitions = admin.list_topics(TOPIC, timeout=30).topics[TOPIC].partitions.values()
            self.fewest_in_sync = min(self.fewest_in_sync, *(len(p.isrs) for p in partitions))


def started():
    return {host: on(host, "systemctl show -p MainPID --value kafka") for host in HOSTS}


def test_a_changed_setting_is_rolled_without_a_lost_or_doubled_record(client):
    before = started()
    changed = json.dumps({"kafka_config": {"log.cleaner.backoff.ms": 16_000}})
    with Traffic(client) as traffic:
        playbook("playbooks/kafka.yml", "-e", changed)
    assert traffic.failed() == []
    note(f"roll: {traffic.sent} records sent, {traffic.fewest_in_sync} replicas in sync at least")
    after = started()
    assert all(before[host] != after[host] for host in HOSTS)
    assert traffic.fewest_in_sync == 2, "one broker at a time, and each seen to be away"

    found = [
        json.loads(message.value())["event_id"]
        for message in read_all(client, TOPIC)
        if message.key() == traffic.mark.encode()
    ]
    assert sorted(found) == sorted(f"{traffic.mark}-{i}" for i in range(traffic.sent))

    # Back to what is declared: the plant rolls once more and then stands still.
    playbook("playbooks/kafka.yml")
    settled = started()
    _, recap = playbook("playbooks/kafka.yml")
    assert sum(counts["changed"] for counts in recap.values()) == 0
    assert started() == settled
