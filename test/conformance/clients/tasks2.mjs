// Tasks of either era, by the official client for them in front of the TypeScript SDK 2.x:
//   tasks2.mjs URL 2025-11-25   in front of fixture/coretasks.mjs
//   tasks2.mjs URL 2026-07-28   in front of fixture/tasks.mjs
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { createTaskSessionFromClient, resultFromTaskOutcome } from "@modelcontextprotocol/ext-tasks/client";
import { deepStrictEqual as equal, ok } from "node:assert";
import { report } from "./tasks.mjs";

const [url, revision] = process.argv.slice(2);
const modern = revision >= "2026";
const clientInfo = { name: "ada", version: "1" };
const clientCapabilities = { elicitation: {}, ...(modern && { extensions: { "io.modelcontextprotocol/tasks": {} } }) };

async function connect(capabilities) {
  const client = new Client(clientInfo, { capabilities, versionNegotiation: { mode: modern ? { pin: revision } : "legacy" } });
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  return client;
}

// post sends what the SDK does not know.
let last = 0;
function post({ method, params }, signal) {
  const headers = {
    "Content-Type": "application/json", Accept: "application/json, text/event-stream",
    "MCP-Protocol-Version": revision, "Mcp-Method": method, "Mcp-Name": params.taskId ?? params.name ?? "",
  };
  return fetch(url, { method: "POST", headers, signal, body: JSON.stringify({ jsonrpc: "2.0", id: `raw-${++last}`, method, params }) });
}

async function rawDispatch(request, { signal } = {}) {
  const response = await post(request, signal);
  const body = await response.text();
  const data = response.headers.get("content-type").startsWith("text/event-stream") ? body.trim().split("data: ").pop() : body;
  const { result, error } = JSON.parse(data);
  return error ? { kind: "error", error } : { kind: "result", result };
}

const open = async () => createTaskSessionFromClient(await connect(clientCapabilities), {
  endpointId: "fleet",
  ...(modern && { rawDispatch, v2RequestFraming: { protocolVersion: revision, clientInfo, clientCapabilities } }),
  onInputRequest: async ({ kind }) => (kind === "elicitation" ? { action: "accept", content: { name: "ada", confirm: true } } : undefined),
});
// listen calls on with the params of each notification of a subscription, until it returns true.
async function listen(notifications, on) {
  const _meta = Object.fromEntries(Object.entries({ protocolVersion: revision, clientInfo, clientCapabilities }).map(([k, v]) => [`io.modelcontextprotocol/${k}`, v]));
  const left = new AbortController();
  const response = await post({ method: "subscriptions/listen", params: { notifications, _meta } }, AbortSignal.any([left.signal, AbortSignal.timeout(10_000)]));
  let text = "";
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    const events = (text + chunk).split("\n\n");
    text = events.pop();
    for (const event of events.filter((e) => e.includes("data: {"))) {
      const { method, params, error } = JSON.parse(event.split("data: ")[1]);
      if (error) throw new Error(error.message);
      if (on(method, params)) return left.abort();
    }
  }
}

const session = await open();
const text = (outcome) => resultFromTaskOutcome(outcome).content[0].text;
const require = { task: { preference: "require" } };
const wait = (ms, say) => (modern
  ? session.callTool("slow_compute", { seconds: ms / 1000, label: say })
  : session.callTool("wait", { ms, say }, { declaration: { name: "wait", inputSchema: { type: "object" }, taskSupport: "required" }, ...require }));

await report({
  async settle() {
    const execution = await wait(300, "done");
    equal(execution.kind, "task");
    const seen = [];
    const { outcome } = await execution.settle({ onEvent: (e) => { seen.push(e.type === "task" ? e.task.status : e.type); } });
    ok(text(outcome).endsWith("done"));
    ok(seen.includes("working") && seen.at(-1) === "outcome", `events: ${seen}`);
  },

  async many() {
    const outcomes = await Promise.all(Array.from({ length: 8 }, async (_, i) => (await (await wait(50 + i, `task ${i}`)).settle()).outcome));
    outcomes.forEach((o, i) => ok(text(o).endsWith(`task ${i}`)));
  },

  async cancel() {
    const execution = await wait(60_000, "never");
    await execution.cancel();
    equal((await session.task(execution.handle.taskId).snapshot()).status, "cancelled");
    await execution.close();
  },

  async recover() {
    const execution = await wait(500, "back");
    const again = await open();
    ok(text((await (await again.resumeTask(execution.serializeReference())).settle()).outcome).endsWith("back"));
    await execution.detach();
  },

  async unknown() {
    equal(await session.task("no such task").snapshot().catch((e) => e.code), -32602);
  },

  async input() {
    if (!modern) return "skip: a shared server cannot ask its clients";
    equal(text((await (await session.callTool("confirm_delete", { filename: "x" })).settle()).outcome), "deleted x");
    equal(text((await (await session.callTool("test_tool_with_task", {})).settle()).outcome), "Hello, ada!");
  },

  async status() {
    if (!modern) return "skip: the SDK of core tasks is told without asking";
    const execution = await session.callTool("confirm_delete", { filename: "y" });
    const { taskId } = execution.handle;
    const seen = [];
    let settled;
    await listen({ taskIds: [taskId, "no such task"] }, (method, params) => {
      if (method === "notifications/subscriptions/acknowledged") {
        equal(params.notifications, { taskIds: [taskId] });
        settled = execution.settle();
      } else {
        equal([method, params.taskId], ["notifications/tasks", taskId]);
        seen.push(params);
      }
      return params.status === "completed";
    });
    equal(seen.at(-1).result.content[0].text, "deleted y");
    equal(text((await settled).outcome), "deleted y");
  },

  async undeclared() {
    if (!modern) return "skip: core tasks are asked for";
    const client = await connect({});
    equal(await client.callTool({ name: "undeclared_task", arguments: {} }).catch((e) => e.code), -32021);
  },
});
