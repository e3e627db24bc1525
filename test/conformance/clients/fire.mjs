// Sessions of the official client that call a tool in a loop, and count what goes wrong.
//   node fire.mjs URL SESSIONS SECONDS TOOLS
// A call of a tool that only reads is made once more if its connection broke: it is safe, and
// no server can answer on a broken connection. TOOLS is echo, which only reads, or echo,flaky
// for calls of both in turn. A call of flaky may be lost with its replica or its connection.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { setTimeout as sleep } from "node:timers/promises";

const [url, sessions, seconds, names] = process.argv.slice(2);
const tools = names.split(",");
const count = { sessions: 0, calls: 0, repeated: 0, lost: 0, lostInARow: 0, initializes: 0, notFound: 0, slowest: 0, errors: {} };
const end = Date.now() + seconds * 1000;

async function counted(input, init) {
  if (init?.body?.includes('"initialize"')) count.initializes++;
  const response = await fetch(input, init);
  if (response.status === 404) count.notFound++;
  return response;
}

// broken reports whether an error is that of a connection, and not an answer. The client may
// have come back for the answer by itself, and found that its replica has ended meanwhile:
// the controller that it came back to does not know the call, and cannot make it again.
const broken = (e) => e instanceof TypeError || ["terminated", "fetch failed", "socket", "the answer is lost"].some((s) => String(e?.message).includes(s));

// isLost reports whether an error says that the replica was lost during the call. If it has an
// HTTP status of its own, the client shows the answer in its text.
const isLost = (e) => e?.code === -31003 || String(e?.message).includes('"code":-31003');

async function session(n) {
  const client = new Client({ name: `fire-${n}`, version: "1" }, { capabilities: {} });
  const transport = new StreamableHTTPClientTransport(new URL(url), { fetch: counted });
  await client.connect(transport);
  count.sessions++;
  let inARow = 0;
  for (let i = 0; Date.now() < end; i++) {
    const name = tools[i % tools.length];
    const text = `${n}-${i}`;
    const args = name === "echo" ? { text } : { probability: 0 };
    const call = () => client.callTool({ name, arguments: args }, undefined, { timeout: 20000 });
    const began = Date.now();
    try {
      const result = await call().catch((e) => {
        if (!broken(e) || name !== "echo") throw e;
        count.repeated++;
        return call();
      });
      if (result.isError || (name === "echo" && !result.content[0].text.includes(text))) throw new Error(`wrong answer: ${JSON.stringify(result).slice(0, 200)}`);
      if (name !== "echo") inARow = 0;
    } catch (e) {
      if (name !== "echo" && (broken(e) || isLost(e))) {
        count.lost++;
        count.lostInARow = Math.max(count.lostInARow, ++inARow);
      } else {
        const why = `${name}: ${e?.code ?? ""} ${e?.message ?? e}`.replace(/[0-9a-f]{8,}/g, "ID").slice(0, 200);
        count.errors[why] = (count.errors[why] ?? 0) + 1;
      }
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
