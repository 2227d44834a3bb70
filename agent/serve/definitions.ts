import { fileURLToPath } from 'node:url';
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import { loadSync, type MessageTypeDefinition, type PackageDefinition } from '@grpc/proto-loader';

/** Where the .proto files are: beside this file, for the built program too. */
const FOLDER = fileURLToPath(new URL('../../agent/serve/proto/', import.meta.url));

/** What is served, as the .proto files define it. Messages are objects with the names of their JSON form. */
export class Definitions {
  readonly #packages: PackageDefinition;

  constructor() {
    this.#packages = loadSync(
      ['belay/v1/belay.proto', 'kubearmor/feeder.proto', 'kubearmor/policy.proto'],
      // as in JSON: 64 bits as decimal strings, bytes as base64
      { includeDirs: [FOLDER], longs: String, bytes: String, arrays: true, objects: true, defaults: true },
    );
  }

  service(name: string): ServiceDefinition {
    return this.#packages[name] as ServiceDefinition;
  }

  method<Request, Response>(service: string, name: string): MethodDefinition<Request, Response> {
    const found = this.service(service)?.[name];
    if (found === undefined) throw new Error(`${service} has no ${name}`);
    return found as MethodDefinition<Request, Response>;
  }

  message<T extends object>(name: string): MessageTypeDefinition<T, T> {
    return this.#packages[name] as unknown as MessageTypeDefinition<T, T>;
  }
}
