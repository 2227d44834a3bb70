import { join } from 'node:path';
import type { Formats } from './formats/format.js';
import type { TlsFiles } from './secret.js';
import type { SinkSettings } from './settings.js';
import { Sink } from './sink.js';
import type { Transport } from './transport.js';
import { Elasticsearch } from './transports/elasticsearch.js';
import { RotatingFile } from './transports/file.js';
import { Splunk } from './transports/splunk.js';
import { StandardOutput } from './transports/standard-output.js';
import { Syslog } from './transports/syslog.js';
import { Webhook } from './transports/webhook.js';

const DEFAULT_SPOOL_MIB = 256;

export interface MakeOptions {
  readonly node: string;
  /** Below which each sink has a directory. */
  readonly spool: string;
  readonly formats: Formats;
  readonly onTrouble: (sink: string, trouble: string | undefined) => void;
}

/**
 * The sink that the configuration asks for. What Kafka and OTLP take is loaded where there is such a sink only.
 * @throws Error when its spool cannot be used
 */
export async function makeSink(
  settings: SinkSettings,
  { node, spool, formats, onTrouble }: MakeOptions,
): Promise<Sink> {
  const { name, filter = {}, spoolMiB = DEFAULT_SPOOL_MIB } = settings;
  const transport = await transportOf(settings, formats);
  const directory = join(spool, name);
  try {
    return new Sink({
      ...{ name, node, filter, transport, directory },
      maxBytes: spoolMiB * (1 << 20),
      onTrouble: (trouble) => onTrouble(name, trouble),
    });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(`sink ${name}: spool: ${directory} cannot be used: ${why}`);
  }
}

export async function transportOf(settings: SinkSettings, formats: Formats): Promise<Transport> {
  // the dots of labels' names would nest them in a mapping
  const formatName = settings.format ?? (settings.type === 'elasticsearch' ? 'ecs' : 'belay');
  const format = formats[formatName];
  const json = formatName !== 'cef';
  switch (settings.type) {
    case 'stdout':
      return new StandardOutput(format);
    case 'file': {
      const { path, maxMiB = 100, keep = 5 } = settings;
      return new RotatingFile({ path, format, keep, maxBytes: maxMiB * (1 << 20) });
    }
    case 'syslog': {
      const { protocol, hostname, port } = new URL(settings.address);
      return new Syslog({
        protocol: protocol.slice(0, -1) as 'udp' | 'tcp' | 'tls',
        host: hostname.replace(/^\[|\]$/g, ''),
        port: Number(port),
        tls: tlsOf(settings),
        format,
      });
    }
    case 'otlp': {
      const { Otlp } = await import('./transports/otlp.js');
      return new Otlp({ url: settings.url, token: settings.token, tls: tlsOf(settings), format });
    }
    case 'kafka': {
      const { brokers, topic, sasl: mechanism, username, password } = settings;
      const files = tlsOf(settings);
      const tls = settings.tls ?? Object.values(files).some((file) => file !== undefined);
      const { KafkaTopic } = await import('./transports/kafka.js');
      const sasl = mechanism && username && password && { mechanism, username, password };
      return new KafkaTopic({
        brokers,
        topic,
        format,
        tls: tls ? files : undefined,
        sasl: sasl || undefined,
      });
    }
    case 'webhook': {
      const contentType = json ? 'application/x-ndjson' : 'text/plain; charset=utf-8';
      return new Webhook({
        url: settings.url,
        token: settings.token,
        tls: tlsOf(settings),
        format,
        contentType,
      });
    }
    case 'splunk': {
      const { url, token, index } = settings;
      const sourceType = `belay:${formatName}`;
      return new Splunk({ url, token, index, tls: tlsOf(settings), format, json, sourceType });
    }
    case 'elasticsearch': {
      const { url, index, apiKey, username, password } = settings;
      return new Elasticsearch({ url, index, apiKey, username, password, tls: tlsOf(settings), format });
    }
  }
}

function tlsOf({ caFile, certFile, keyFile, serverName }: TlsFiles): TlsFiles {
  return { caFile, certFile, keyFile, serverName };
}
