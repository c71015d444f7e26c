"""What tests of FLStore, and of what others add to it, are made of: contract suites and real servers on loopback."""
