"""What runs on the hosts: sent as text to their own Python 3, answers with JSON."""
