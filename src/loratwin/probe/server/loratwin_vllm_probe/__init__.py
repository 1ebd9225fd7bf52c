"""Runs inside the vLLM server: one row for each engine step and one for each adapter load, without a fork of vLLM.

Standard library only, and Python 3.9: loratwin is not installed in the server's environment; the folder above this one
stands on its PYTHONPATH. `steps.Scheduler` is given by `--scheduler-cls`, `loads.WorkerProbe` by
`--worker-extension-cls`; both write into the folder that the environment variable LORATWIN_PROBE_LOG names.
A failure in here is noted once and ends the log, never the server.
"""
