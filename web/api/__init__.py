"""The JSON API: ``/api/v1`` and the seeds' own paths, with the schemas of requests and responses."""
