"""The only rooms that talk to OpenTelemetry's tracers, meters and loggers."""
