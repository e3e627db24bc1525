// Sessions of the official client that call a tool in a loop, and count what goes wrong.
//   node fire.mjs URL SESSIONS SECONDS
// A call whose connection broke is made once more: it is safe, and no server can answer
// on a broken connection.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { setTimeout as sleep } from "node:timers/promises";

const [url, sessions, seconds] = process.argv.slice(2);
const count = { sessions: 0, calls: 0, repeated: 0, initializes: 0, notFound: 0, slowest: 0, errors: {} };
const end = Date.now() + seconds * 1000;

async function counted(input, init) {
  if (init?.body?.includes('"initialize"')) count.initializes++;
  const response = await fetch(input, init);
  if (response.status === 404) count.notFound++;
  return response;
}

// broken reports whether an error is that of a connection, and not an answer.
const broken = (e) => e instanceof TypeError || ["terminated", "fetch failed", "socket"].some((s) => String(e?.message).includes(s));

async function session(n) {
  const client = new Client({ name: `fire-${n}`, version: "1" }, { capabilities: {} });
  const transport = new StreamableHTTPClientTransport(new URL(url), { fetch: counted });
  await client.connect(transport);
  count.sessions++;
  for (let i = 0; Date.now() < end; i++) {
    const text = `${n}-${i}`;
    const call = () => client.callTool({ name: "echo", arguments: { text } }, undefined, { timeout: 20000 });
    const began = Date.now();
    try {
      const result = await call().catch((e) => {
        if (!broken(e)) throw e;
        count.repeated++;
        return call();
      });
      if (result.isError || !result.content[0].text.includes(text)) throw new Error(`wrong answer: ${JSON.stringify(result).slice(0, 200)}`);
    } catch (e) {
      const why = `${e?.code ?? ""} ${e?.message ?? e}`.replace(/[0-9a-f]{8,}/g, "ID").slice(0, 200);
      count.errors[why] = (count.errors[why] ?? 0) + 1;
    }
    count.calls++;
    count.slowest = Math.max(count.slowest, Date.now() - began);
    await sleep(300);
  }
  await transport.terminateSession().catch(() => {});
  await client.close().catch(() => {});
}

const all = Array.from({ length: Number(sessions) }, async (_, n) => {
  await sleep(20 * n);
  await session(n);
});
for (const { reason } of await Promise.allSettled(all)) if (reason) count.errors[`session: ${reason.message}`.slice(0, 200)] = 1;
await new Promise((done) => process.stdout.write(JSON.stringify(count) + "\n", done));
process.exit(0);
