"""The JSON API: ``/api/v1`` and the seeds' own paths, with what requests and responses look like."""
