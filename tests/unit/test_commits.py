"""A transaction that brokers have forgotten was committed; everything else is as Flink takes it."""

import subprocess


def test_a_forgotten_transaction_was_committed(class_path):
    command = ["java", "-XX:TieredStopAtLevel=1", "-cp", class_path, "plantline.CommitHarness"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["committed", "committed", "failed"]
