"""Metrics for Prometheus: counted in each process, or read from database and broker at scrape time.

``multiprocess``  combines the counts of several processes, even if some were killed, in a folder
``registry``      starts counting in a process, and exports its counts and its siblings'
``exporter``      a worker's ``/metrics``; the web's is in ``web.metrics``
"""
