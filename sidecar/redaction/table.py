"""What happens to every field of OTLP. The one table: what is not in it does not leave.

151 fields of 34 messages, by path. A test compares it with the descriptors, so that a field which a later
OTLP adds makes the test fail and, until somebody decides, is dropped as unknown.

Numbers pass where they are measurements, times, counts or flags, also those of metrics that nobody here
knows: a name must have its shape, and a number is what a metric is for. Numbers in *attributes* are held to
the range of their rule.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class Decision(Enum):
    """What happens to a field."""

    INTO = auto()  # a message around records: decided field by field; if it cannot be read, nothing can
    RECORD = auto()  # a span, data point or log record: decided field by field, counted, dropped alone
    PART = auto()  # a message inside a record or beside records: decided field by field, dropped alone
    NUMBER = auto()  # passes when it is a number of its type; an enumeration, when it has a name for it
    TRACE_ID = auto()  # 16 bytes or none
    SPAN_ID = auto()  # 8 bytes or none
    TEXT = auto()  # by the policy's rule for this field; without a rule it is dropped
    NAME = auto()  # the same, and when it is refused the message around it goes too: a metric needs its name
    ATTRIBUTES = auto()  # by the policy's list for spans, data points and log records
    EVENT_ATTRIBUTES = auto()  # by the policy's list for events
    RESOURCE_ATTRIBUTES = auto()  # by the policy's list for resources
    BY_RULE = auto()  # the inside of attributes: read by their rules, in the one form that each rule expects
    DROP = auto()


_D = Decision

TABLE: Final[dict[str, Decision]] = {
    # What is around the records -----------------------------------------------------------------------------
    "ExportTraceServiceRequest.resource_spans": _D.INTO,
    "ResourceSpans.resource": _D.PART,
    "ResourceSpans.scope_spans": _D.INTO,
    "ResourceSpans.schema_url": _D.TEXT,
    "ScopeSpans.scope": _D.PART,
    "ScopeSpans.spans": _D.RECORD,
    "ScopeSpans.schema_url": _D.TEXT,
    "ExportMetricsServiceRequest.resource_metrics": _D.INTO,
    "ResourceMetrics.resource": _D.PART,
    "ResourceMetrics.scope_metrics": _D.INTO,
    "ResourceMetrics.schema_url": _D.TEXT,
    "ScopeMetrics.scope": _D.PART,
    "ScopeMetrics.metrics": _D.INTO,
    "ScopeMetrics.schema_url": _D.TEXT,
    "ExportLogsServiceRequest.resource_logs": _D.INTO,
    "ResourceLogs.resource": _D.PART,
    "ResourceLogs.scope_logs": _D.INTO,
    "ResourceLogs.schema_url": _D.TEXT,
    "ScopeLogs.scope": _D.PART,
    "ScopeLogs.log_records": _D.RECORD,
    "ScopeLogs.schema_url": _D.TEXT,
    # Who is speaking ----------------------------------------------------------------------------------------
    "Resource.attributes": _D.RESOURCE_ATTRIBUTES,
    "Resource.dropped_attributes_count": _D.NUMBER,
    "Resource.entity_refs": _D.DROP,
    "EntityRef.schema_url": _D.DROP,
    "EntityRef.type": _D.DROP,
    "EntityRef.id_keys": _D.DROP,
    "EntityRef.description_keys": _D.DROP,
    "InstrumentationScope.name": _D.TEXT,
    "InstrumentationScope.version": _D.TEXT,
    "InstrumentationScope.attributes": _D.DROP,
    "InstrumentationScope.dropped_attributes_count": _D.NUMBER,
    # Attributes and values, wherever they stand -------------------------------------------------------------
    "KeyValue.key": _D.BY_RULE,
    "KeyValue.value": _D.BY_RULE,
    "KeyValue.key_strindex": _D.DROP,
    "AnyValue.string_value": _D.BY_RULE,
    "AnyValue.bool_value": _D.BY_RULE,
    "AnyValue.int_value": _D.BY_RULE,
    "AnyValue.double_value": _D.BY_RULE,
    "AnyValue.array_value": _D.BY_RULE,
    "AnyValue.kvlist_value": _D.DROP,
    "AnyValue.bytes_value": _D.DROP,
    "AnyValue.string_value_strindex": _D.DROP,
    "ArrayValue.values": _D.BY_RULE,
    "KeyValueList.values": _D.DROP,
    # Traces -------------------------------------------------------------------------------------------------
    "Span.trace_id": _D.TRACE_ID,
    "Span.span_id": _D.SPAN_ID,
    "Span.trace_state": _D.DROP,
    "Span.parent_span_id": _D.SPAN_ID,
    "Span.flags": _D.NUMBER,
    "Span.name": _D.TEXT,
    "Span.kind": _D.NUMBER,
    "Span.start_time_unix_nano": _D.NUMBER,
    "Span.end_time_unix_nano": _D.NUMBER,
    "Span.attributes": _D.ATTRIBUTES,
    "Span.dropped_attributes_count": _D.NUMBER,
    "Span.events": _D.PART,
    "Span.dropped_events_count": _D.NUMBER,
    "Span.links": _D.PART,
    "Span.dropped_links_count": _D.NUMBER,
    "Span.status": _D.PART,
    "Span.Event.time_unix_nano": _D.NUMBER,
    "Span.Event.name": _D.TEXT,
    "Span.Event.attributes": _D.EVENT_ATTRIBUTES,
    "Span.Event.dropped_attributes_count": _D.NUMBER,
    "Span.Link.trace_id": _D.TRACE_ID,
    "Span.Link.span_id": _D.SPAN_ID,
    "Span.Link.trace_state": _D.DROP,
    "Span.Link.attributes": _D.DROP,
    "Span.Link.dropped_attributes_count": _D.NUMBER,
    "Span.Link.flags": _D.NUMBER,
    "Status.message": _D.DROP,
    "Status.code": _D.NUMBER,
    # Metrics ------------------------------------------------------------------------------------------------
    "Metric.name": _D.NAME,
    "Metric.description": _D.DROP,
    "Metric.unit": _D.TEXT,
    "Metric.gauge": _D.INTO,
    "Metric.sum": _D.INTO,
    "Metric.histogram": _D.INTO,
    "Metric.exponential_histogram": _D.INTO,
    "Metric.summary": _D.INTO,
    "Metric.metadata": _D.DROP,
    "Gauge.data_points": _D.RECORD,
    "Sum.data_points": _D.RECORD,
    "Sum.aggregation_temporality": _D.NUMBER,
    "Sum.is_monotonic": _D.NUMBER,
    "Histogram.data_points": _D.RECORD,
    "Histogram.aggregation_temporality": _D.NUMBER,
    "ExponentialHistogram.data_points": _D.RECORD,
    "ExponentialHistogram.aggregation_temporality": _D.NUMBER,
    "Summary.data_points": _D.RECORD,
    "NumberDataPoint.attributes": _D.ATTRIBUTES,
    "NumberDataPoint.start_time_unix_nano": _D.NUMBER,
    "NumberDataPoint.time_unix_nano": _D.NUMBER,
    "NumberDataPoint.as_double": _D.NUMBER,
    "NumberDataPoint.as_int": _D.NUMBER,
    "NumberDataPoint.exemplars": _D.PART,
    "NumberDataPoint.flags": _D.NUMBER,
    "HistogramDataPoint.attributes": _D.ATTRIBUTES,
    "HistogramDataPoint.start_time_unix_nano": _D.NUMBER,
    "HistogramDataPoint.time_unix_nano": _D.NUMBER,
    "HistogramDataPoint.count": _D.NUMBER,
    "HistogramDataPoint.sum": _D.NUMBER,
    "HistogramDataPoint.bucket_counts": _D.NUMBER,
    "HistogramDataPoint.explicit_bounds": _D.NUMBER,
    "HistogramDataPoint.exemplars": _D.PART,
    "HistogramDataPoint.flags": _D.NUMBER,
    "HistogramDataPoint.min": _D.NUMBER,
    "HistogramDataPoint.max": _D.NUMBER,
    "ExponentialHistogramDataPoint.attributes": _D.ATTRIBUTES,
    "ExponentialHistogramDataPoint.start_time_unix_nano": _D.NUMBER,
    "ExponentialHistogramDataPoint.time_unix_nano": _D.NUMBER,
    "ExponentialHistogramDataPoint.count": _D.NUMBER,
    "ExponentialHistogramDataPoint.sum": _D.NUMBER,
    "ExponentialHistogramDataPoint.scale": _D.NUMBER,
    "ExponentialHistogramDataPoint.zero_count": _D.NUMBER,
    "ExponentialHistogramDataPoint.positive": _D.PART,
    "ExponentialHistogramDataPoint.negative": _D.PART,
    "ExponentialHistogramDataPoint.flags": _D.NUMBER,
    "ExponentialHistogramDataPoint.exemplars": _D.PART,
    "ExponentialHistogramDataPoint.min": _D.NUMBER,
    "ExponentialHistogramDataPoint.max": _D.NUMBER,
    "ExponentialHistogramDataPoint.zero_threshold": _D.NUMBER,
    "ExponentialHistogramDataPoint.Buckets.offset": _D.NUMBER,
    "ExponentialHistogramDataPoint.Buckets.bucket_counts": _D.NUMBER,
    "SummaryDataPoint.attributes": _D.ATTRIBUTES,
    "SummaryDataPoint.start_time_unix_nano": _D.NUMBER,
    "SummaryDataPoint.time_unix_nano": _D.NUMBER,
    "SummaryDataPoint.count": _D.NUMBER,
    "SummaryDataPoint.sum": _D.NUMBER,
    "SummaryDataPoint.quantile_values": _D.PART,
    "SummaryDataPoint.flags": _D.NUMBER,
    "SummaryDataPoint.ValueAtQuantile.quantile": _D.NUMBER,
    "SummaryDataPoint.ValueAtQuantile.value": _D.NUMBER,
    "Exemplar.filtered_attributes": _D.DROP,
    "Exemplar.time_unix_nano": _D.NUMBER,
    "Exemplar.as_double": _D.NUMBER,
    "Exemplar.as_int": _D.NUMBER,
    "Exemplar.span_id": _D.SPAN_ID,
    "Exemplar.trace_id": _D.TRACE_ID,
    # Logs ---------------------------------------------------------------------------------------------------
    "LogRecord.time_unix_nano": _D.NUMBER,
    "LogRecord.observed_time_unix_nano": _D.NUMBER,
    "LogRecord.severity_number": _D.NUMBER,
    "LogRecord.severity_text": _D.TEXT,
    "LogRecord.body": _D.DROP,
    "LogRecord.attributes": _D.ATTRIBUTES,
    "LogRecord.dropped_attributes_count": _D.NUMBER,
    "LogRecord.flags": _D.NUMBER,
    "LogRecord.trace_id": _D.TRACE_ID,
    "LogRecord.span_id": _D.SPAN_ID,
    "LogRecord.event_name": _D.TEXT,
}

#: The fields that a policy has rules for.
TEXT_FIELDS: Final = tuple(path for path, decision in TABLE.items() if decision in (_D.TEXT, _D.NAME))
