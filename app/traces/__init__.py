"""OpenTelemetry at work; imported only where tracing is on, by ``app.tracing``, which is what the rest talks to."""
