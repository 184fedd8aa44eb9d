"""Metrics for Prometheus: what this process counts, and what is read of database and broker when somebody looks.

``counts``    counters and durations: a listener of the saga engine's happenings, and of Celery's tasks
``slots``     how the counts of several processes become one, whoever of them is killed
``folders``   where they count, if nobody has said
``counting``  begins all that in a process, and gives out what it and its siblings have counted
``gauges``    how things stand: stuck and unfinished sagas, their age, the queues' depth
``source``    asks something that may not answer, seldom, and never for long
``exporter``  a worker's ``/metrics``; the web's is in ``web.metrics``
"""
