"""Metrics for Prometheus, counted in each process; ``workflows.operations.gauges`` reads others at scrape time.

``multiprocess``  combines the counts of several processes, even if some were killed, in a folder
``registry``      starts counting in a process, exports its counts and its siblings', and serves a worker's ``/metrics``
"""
