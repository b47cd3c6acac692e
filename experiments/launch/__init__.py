"""How to launch on one machine and on batch queues: each file says its command first."""
