"""A transaction that brokers have forgotten was committed; nobody waits for them for ever."""

import subprocess


def test_forgotten_transactions_were_committed_and_committers_close_in_time(class_path):
    command = ["java", "-XX:TieredStopAtLevel=1", "-cp", class_path, "plantline.CommitHarness"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    said = done.stdout.split()
    assert said == [*("committed", "committed", "failed"), *("closed", "closed", "it-fails")]
