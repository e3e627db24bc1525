// The core tasks of 2025-11-25, by the official TypeScript SDK 1.x, in front of
// fixture/coretasks.mjs: tasks1.mjs URL shared|session
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { InMemoryTaskStore } from "@modelcontextprotocol/sdk/experimental/tasks/stores/in-memory.js";
import { CallToolResultSchema, ElicitRequestSchema, TaskStatusNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import { setTimeout as sleep } from "node:timers/promises";
import { deepStrictEqual as equal, ok } from "node:assert";
import { report } from "./tasks.mjs";

const [url, mode] = process.argv.slice(2);
const text = (result) => result.content[0].text;

// connect returns a client that answers with its name, also by a task of its own.
async function connect(name) {
  const capabilities = { elicitation: {}, tasks: { list: {}, cancel: {}, requests: { elicitation: { create: {} } } } };
  const client = new Client({ name, version: "1" }, { capabilities, taskStore: new InMemoryTaskStore() });
  const answer = { action: "accept", content: { name } };
  client.setRequestHandler(ElicitRequestSchema, async (request, extra) => {
    if (!request.params.task) return answer;
    const task = await extra.taskStore.createTask({ ttl: 60_000, pollInterval: 100 });
    setTimeout(() => extra.taskStore.storeTaskResult(task.taskId, "completed", answer), 200);
    return { task };
  });
  const told = [];
  client.setNotificationHandler(TaskStatusNotificationSchema, ({ params }) => { told.push(`${params.taskId} ${params.status}`); });
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  await client.listTools(); // the SDK remembers which tools need tasks
  return { client, told, tasks: client.experimental.tasks };
}

// create begins a task, and returns its id.
async function create(c, name, args) {
  for await (const m of c.tasks.callToolStream({ name, arguments: args }, CallToolResultSchema, { task: { ttl: 60_000 } })) {
    if (m.type === "taskCreated") return m.task.taskId;
    throw new Error(`${m.type}: ${m.error?.message}`);
  }
}

const one = await connect("ada");
const two = await connect("bob");

await report({
  async stream() {
    const seen = [];
    for await (const m of one.tasks.callToolStream({ name: "wait", arguments: { ms: 300, say: "done" } }, CallToolResultSchema)) {
      seen.push(m.type === "taskStatus" ? m.task.status : m.type);
      if (m.type === "result") equal(text(m.result), "done");
    }
    equal([...new Set(seen)], ["taskCreated", "working", "completed", "result"]);
  },

  async many() {
    const ids = await Promise.all(Array.from({ length: 12 }, (_, i) => create(i % 2 ? one : two, "wait", { ms: 100 + i, say: `task ${i}` })));
    equal(new Set(ids).size, 12);
    const results = await Promise.all(ids.map((id, i) => (i % 2 ? one : two).tasks.getTaskResult(id, CallToolResultSchema)));
    equal(results.map(text), ids.map((_, i) => `task ${i}`));
    equal(results.map((r) => r._meta["io.modelcontextprotocol/related-task"].taskId), ids);
  },

  async cancel() {
    const id = await create(one, "wait", { ms: 60_000, say: "never" });
    equal((await one.tasks.getTask(id)).status, "working");
    equal((await one.tasks.cancelTask(id)).status, "cancelled");
    equal((await one.tasks.getTask(id)).status, "cancelled");
  },

  async unknown() {
    equal(await one.tasks.getTask("no such task").catch((e) => e.code), -32602);
  },

  async list() {
    const listed = await one.tasks.listTasks().then((r) => r.tasks.map((t) => t.taskId), (e) => e.code);
    if (mode === "shared") return equal(listed, -32601);
    const id = await create(one, "wait", { ms: 0, say: "x" });
    ok((await one.tasks.listTasks()).tasks.some((t) => t.taskId === id));
    ok(!(await two.tasks.listTasks()).tasks.some((t) => t.taskId === id));
  },

  async status() {
    const ids = await Promise.all([one, two].map((c) => create(c, "wait", { ms: 300, say: "x" })));
    for (let n = 0; n < 200 && ![one, two].every((c, i) => c.told.includes(`${ids[i]} completed`)); n++) await sleep(25);
    ok(one.told.includes(`${ids[0]} completed`), `nobody said that the task was completed: ${one.told}`);
    ok(two.told.includes(`${ids[1]} completed`), `nobody said that the task was completed: ${two.told}`);
    ok(!one.told.some((s) => s.startsWith(ids[1])) && !two.told.some((s) => s.startsWith(ids[0])), "told of another client's task");
  },

  async input() {
    if (mode === "shared") return "skip: a shared server cannot ask its clients";
    const id = await create(one, "ask", {});
    equal(text(await one.tasks.getTaskResult(id, CallToolResultSchema)), "Hello, ada!");
  },

  async delegate() {
    if (mode === "shared") return "skip: a shared server cannot ask its clients";
    equal(text(await one.client.callTool({ name: "delegate", arguments: {} })), "taskCreated,taskStatus,result: ada");
  },
});
