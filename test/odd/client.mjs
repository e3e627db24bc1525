// Talks to servers with the official client, and prints the outcome of each as one line of JSON.
//   node client.mjs PROGRAM < servers.json     [{name, call, seconds}]
// tools and result are what the server sent, if the client accepted it.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { text } from "node:stream/consumers";

const [program] = process.argv.slice(2);
const servers = JSON.parse(await text(process.stdin));

async function talk({ name, call, seconds }) {
  const client = new Client({ name: "mcpfleet-test", version: "1" }, { capabilities: {} });
  const options = { timeout: seconds * 1000 };
  const transport = new StdioClientTransport({ command: program, args: [name], stderr: "ignore" });
  const got = { name };
  try {
    await client.connect(transport, options);
    let last; // the raw result behind what the client returns
    const onmessage = transport.onmessage;
    transport.onmessage = (message, extra) => {
      if (message.result !== undefined) last = message.result;
      onmessage(message, extra);
    };
    const tools = new Map();
    const seen = new Set();
    let cursor;
    do {
      seen.add(cursor);
      const page = await client.listTools(cursor ? { cursor } : undefined, options);
      for (const tool of last.tools) tools.set(JSON.stringify(tool), tool);
      cursor = page.nextCursor;
    } while (cursor && !seen.has(cursor));
    got.tools = [...tools.values()];
    if (call !== "-") {
      await client.callTool({ name: call, arguments: { text: "grüße ✓" } }, undefined, options);
      got.result = last;
    }
  } catch (error) {
    got.error = String(error?.message ?? error).slice(0, 300);
  }
  await client.close().catch(() => {});
  return got;
}

// Only a few at a time, since the machine may be small.
const waiting = [...servers];
const results = [];
await Promise.all(
  Array.from({ length: 6 }, async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) results.push(await talk(next));
  }),
);
await new Promise((done) => process.stdout.write(JSON.stringify(results) + "\n", done));
process.exit(0);
