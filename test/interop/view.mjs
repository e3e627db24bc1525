// Prints the official TypeScript client's view of a stdio server as one line of JSON: whether it starts, its tools (all pages), and
// the answers to some calls.
//   node view.mjs '{"command": ["node", "server.js"], "env": {}, "cwd": "/tmp", "calls": [{"tool": "echo", "args": {}}]}'
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport, getDefaultEnvironment } from "@modelcontextprotocol/sdk/client/stdio.js";
import { ResultSchema } from "@modelcontextprotocol/sdk/types.js";

const { command: [command, ...args], env, cwd, calls } = JSON.parse(process.argv[2]);
const timeout = 60_000; // ResultSchema keeps unknown members

async function viewServer() {
  const client = new Client({ name: "mcpfleet-interop", version: "1" }, { capabilities: {} });
  const transport = new StdioClientTransport({ command, args, cwd, env: { ...getDefaultEnvironment(), ...env }, stderr: "pipe" });
  let stderr = "";
  transport.stderr.on("data", (chunk) => { stderr = (stderr + chunk).slice(-2000); });
  try {
    await client.connect(transport, { timeout });
  } catch (e) {
    return { starts: false, error: String(e.message ?? e), stderr };
  }
  const view = { starts: true, server: client.getServerVersion(), tools: [], calls: [] };
  try {
    if (client.getServerCapabilities()?.tools) {
      let cursor;
      do {
        const page = await client.request({ method: "tools/list", params: cursor === undefined ? {} : { cursor } }, ResultSchema, { timeout });
        view.tools.push(...page.tools);
        cursor = page.nextCursor;
      } while (cursor !== undefined);
    }
    for (const call of calls ?? []) {
      try {
        view.calls.push({ result: await client.request({ method: "tools/call", params: { name: call.tool, arguments: call.args } }, ResultSchema, { timeout }) });
      } catch (e) {
        view.calls.push({ error: { code: e.code, message: String(e.message ?? e) } });
      }
    }
  } catch (e) {
    return { starts: false, error: String(e.message ?? e), stderr };
  } finally {
    await client.close();
  }
  return view;
}

const view = await viewServer();
await new Promise((done) => process.stdout.write(JSON.stringify(view) + "\n", done));
process.exit(0);
