// A client of belay.v1.Belay/Watch in a process of its own; tells its parent how many records it has, and how many it missed.
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { Definitions } from '../../dist/serve/definitions.js';

const client = new Client(`unix:${process.argv[2]}`, credentials.createInsecure(), { 'grpc.enable_http_proxy': 0 });
const { path, requestSerialize, responseDeserialize } = new Definitions().method('belay.v1.Belay', 'Watch');
const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, {}, new Metadata());
let records = 0;
let missed = 0;
let telling;
call.on('metadata', () => process.send({ records, missed }));
call.on('data', ({ type, lost }) => {
  if (type === 'gap') missed += Number(lost);
  else records++;
  telling ??= setTimeout(() => {
    telling = undefined;
    process.send({ records, missed });
  }, 1);
});
call.on('error', (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
