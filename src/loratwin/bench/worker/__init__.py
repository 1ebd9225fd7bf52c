"""The process that sends the load, `python -m loratwin.bench.worker FOLDER`, and nothing else."""
