import protobuf from 'protobufjs';

/**
 * The part of OpenTelemetry's protocol (OTLP 1.x) that logs are sent with: the published names and numbers. `LogRecord`s
 * are encoded when they are made and sent much later, so the list that holds them takes them as bytes, which protobuf's
 * encoding does not tell apart.
 */
const field = (type: string, id: number, rule?: 'repeated') => ({ type, id, ...(rule && { rule }) });

const root = protobuf.Root.fromJSON({
  nested: {
    AnyValue: {
      oneofs: { value: { oneof: ['stringValue', 'boolValue', 'intValue', 'doubleValue'] } },
      fields: {
        stringValue: field('string', 1),
        boolValue: field('bool', 2),
        intValue: field('int64', 3),
        doubleValue: field('double', 4),
      },
    },
    KeyValue: { fields: { key: field('string', 1), value: field('AnyValue', 2) } },
    LogRecord: {
      fields: {
        timeUnixNano: field('fixed64', 1),
        severityNumber: field('int32', 2),
        severityText: field('string', 3),
        body: field('AnyValue', 5),
        attributes: field('KeyValue', 6, 'repeated'),
        observedTimeUnixNano: field('fixed64', 11),
        eventName: field('string', 12),
      },
    },
    Resource: { fields: { attributes: field('KeyValue', 1, 'repeated') } },
    Scope: { fields: { name: field('string', 1), version: field('string', 2) } },
    ScopeLogs: { fields: { scope: field('Scope', 1), logRecords: field('bytes', 2, 'repeated') } },
    ResourceLogs: {
      fields: { resource: field('Resource', 1), scopeLogs: field('ScopeLogs', 2, 'repeated') },
    },
    ExportLogsServiceRequest: { fields: { resourceLogs: field('ResourceLogs', 1, 'repeated') } },
    PartialSuccess: { fields: { rejectedLogRecords: field('int64', 1), errorMessage: field('string', 2) } },
    ExportLogsServiceResponse: { fields: { partialSuccess: field('PartialSuccess', 1) } },
  },
});

const LogRecord = root.lookupType('LogRecord');
const Request = root.lookupType('ExportLogsServiceRequest');
const Response = root.lookupType('ExportLogsServiceResponse');

export interface LogRecordFields {
  readonly timeUnixNano: string;
  readonly severityNumber: number;
  readonly severityText: string;
  readonly eventName: string;
  readonly body: string;
  readonly attributes: Readonly<Record<string, string | number | boolean>>;
}

const attributeOf = ([key, value]: [string, string | number | boolean]) => ({
  key,
  value:
    typeof value === 'string'
      ? { stringValue: value }
      : typeof value === 'boolean'
        ? { boolValue: value }
        : { intValue: value },
});

/** One log record, encoded. */
export function encodeLogRecord({ body, attributes, timeUnixNano, ...rest }: LogRecordFields): Buffer {
  const message = {
    ...rest,
    // 64-bit numbers may be decimal text
    timeUnixNano,
    observedTimeUnixNano: timeUnixNano,
    body: { stringValue: body },
    attributes: Object.entries(attributes).map(attributeOf),
  };
  return Buffer.from(LogRecord.encode(message).finish());
}

/** A request with encoded log records. */
export function encodeRequest(
  logRecords: readonly Buffer[],
  resource: Readonly<Record<string, string>>,
  version: string,
): Buffer {
  const message = {
    resourceLogs: [
      {
        resource: { attributes: Object.entries(resource).map(attributeOf) },
        scopeLogs: [{ scope: { name: 'belay', version }, logRecords }],
      },
    ],
  };
  return Buffer.from(Request.encode(message).finish());
}

/** How many records the peer would not take, and its words; 0 = it took all. */
export function decodeResponse(bytes: Uint8Array): { readonly rejected: number; readonly message: string } {
  const { partialSuccess } = Response.toObject(Response.decode(bytes), { longs: Number }) as {
    partialSuccess?: { rejectedLogRecords?: number; errorMessage?: string };
  };
  return {
    rejected: partialSuccess?.rejectedLogRecords ?? 0,
    message: partialSuccess?.errorMessage ?? '',
  };
}
