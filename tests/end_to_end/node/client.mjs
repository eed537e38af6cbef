// An app that knows nothing of tokens: undici with the agent that reads HTTP_PROXY, alternating GET and POST.
//
// Arguments: URL, seconds, requests per second. Standard output: one JSON line {"statuses": {code: count}, "errors": []}.

import { setTimeout as sleep } from 'node:timers/promises';
import { EnvHttpProxyAgent, request, setGlobalDispatcher } from 'undici';

const [url, seconds, rate] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
setGlobalDispatcher(new EnvHttpProxyAgent());

const statuses = {};
const errors = [];
const end = performance.now() + seconds * 1000;
for (let turn = 0; performance.now() < end; turn += 1) {
  try {
    const body = `order ${turn}`;
    const answer = await request(url, turn % 2 ? { method: 'POST', body } : {});
    const echoed = await answer.body.text();
    if (turn % 2 && answer.statusCode === 200 && echoed !== body) errors.push(`echoed ${JSON.stringify(echoed)}`);
    statuses[answer.statusCode] = (statuses[answer.statusCode] ?? 0) + 1;
  } catch (error) {
    errors.push(`${error.code ?? error.name}: ${error.message}`);
  }
  await sleep(1000 / rate);
}
process.stdout.write(`${JSON.stringify({ statuses, errors })}\n`);
process.exit(0);
