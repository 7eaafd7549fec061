"""How long a thousand topics, 500 access rules, 200 users and 200 quotas of Kafka take.

    python -m tests.bench.resources --inventory inventories/demo

They are made, declared once more, and deleted again. The limits are those of the four tasks; the
start of Ansible is shown beside. Not for a plant that works: its brokers have other work.
"""

import argparse
import secrets
import sys
from pathlib import Path

from tests.resources import declare

NAMES = [f"bench-{number}" for number in range(1000)]
USERS = NAMES[:200]
RECORD = "kafka-bench"
LIMITS_S = {"new": 20.0, "unchanged": 5.0}
CHANGES = {"new": 4, "unchanged": 0}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inventory", type=Path, required=True)
    inventory = parser.parse_args().inventory
    everything = {
        "kafka_topics": [
            {"name": name, "partitions": 1, "config": {"retention.ms": "604800000"}}
            for name in NAMES
        ],
        "kafka_acls": [
            {
                "principal": f"User:{USERS[index % len(USERS)]}",
                "operations": ["read"],
                "resource": "topic",
                "name": name,
            }
            for index, name in enumerate(NAMES[:500])
        ],
        "kafka_users": USERS,
        "kafka_passwords": {user: secrets.token_urlsafe(24) for user in USERS},
        "kafka_quotas": [{"user": user, "producer_byte_rate": 1_000_000} for user in USERS],
    }
    failed = False
    try:
        for name, limit_s in LIMITS_S.items():
            done = declare(inventory, RECORD, **everything)
            if not done.ok:
                print(done.output, file=sys.stderr)
                return 1
            slow = " (too slow)" if done.declaring_s > limit_s else ""
            print(f"{name:10} {done.declaring_s:5.1f} s of {limit_s:.0f} s{slow}", end=", ")
            print(f"{done.changed} of 4 tasks changed something; playbook {done.seconds:.1f} s")
            failed = failed or bool(slow) or done.changed != CHANGES[name]
    finally:
        done = declare(inventory, RECORD, kafka_prune=True)
        print(f"{'deleted':10} {done.declaring_s:5.1f} s")
    return int(failed or not done.ok)


if __name__ == "__main__":
    sys.exit(main())
