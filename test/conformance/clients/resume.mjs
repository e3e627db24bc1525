// Calls of the official client whose connections break meanwhile.
//   node resume.mjs URL CALLS SECONDS
// It prints a line when all calls have progressed, and one with their results.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [url, calls, seconds] = process.argv.slice(2);
const client = new Client({ name: "resume", version: "1" }, { capabilities: {} });
const reconnectionOptions = { initialReconnectionDelay: 200, maxReconnectionDelay: 1000, reconnectionDelayGrowFactor: 1.5, maxRetries: 30 };
await client.connect(new StreamableHTTPClientTransport(new URL(url), { reconnectionOptions }));
let waiting = calls;
const results = await Promise.all(Array.from({ length: Number(calls) }, async (_, i) => {
  const seen = [];
  const onprogress = (p) => {
    if (seen.push(p.progress) === 1 && --waiting === 0) console.log("all progress");
  };
  const args = { key: `resume-${i}`, steps: seconds * 10, ms: 100 };
  const text = await client.callTool({ name: "slow", arguments: args }, undefined, { onprogress, timeout: 60000 })
    .then((r) => r.content[0].text, (e) => String(e.message ?? e));
  return { text, seen };
}));
await new Promise((done) => process.stdout.write(JSON.stringify(results) + "\n", done));
process.exit(0);
