"""Activity → OpenTelemetry: spans, metrics, export. Knows nothing of AutoGen."""
