// What a client must be able to do with the fixtures, whatever its SDK and era. Each
// script that imports this connects with an SDK of its own.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { deepStrictEqual as equal, ok } from "node:assert";

const watched = "test://watched-resource";
const other = "test://static-text";
const text = (result) => result.content[0].text;

// all declares every capability, and answers with the client's name.
const all = (name) => ({
  name,
  capabilities: { sampling: {}, elicitation: {}, roots: { listChanged: true } },
  answers: {
    "sampling/createMessage": (params) => ({ role: "assistant", model: name, content: { type: "text", text: `${name} says ${params.messages[0].content.text}` } }),
    "elicitation/create": (params) => ({ action: "accept", content: { name, answer: `${name} fills in ${params.message}` } }),
    "roots/list": () => ({ roots: [{ uri: `file:///home/${name}`, name }] }),
  },
});

// onlyOf passes the server's progress on, which counts from 1. The fleet's own, while a
// call waits for a replica, is less.
const onlyOf = (on) => (p) => p.progress >= 1 && on(p);

// eventually waits until check returns something true.
async function eventually(what, check) {
  for (let n = 0; n < 200; n++) {
    if (await check()) return;
    await sleep(25);
  }
  throw new Error(`not within 5 s: ${what}`);
}

// notes are what processes of servers have noted.
function notes() {
  try {
    return readFileSync(join(process.env.FIXTURE_NOTES, "notes"), "utf8").split("\n");
  } catch {
    return [];
  }
}

const checks = {
  async tools(c) {
    const echo = (await c.list()).find((t) => t.name === "echo");
    equal(echo.annotations, { readOnlyHint: true, title: "Echo" });
    equal(echo.inputSchema, { type: "object", properties: { text: { type: "string", description: "The text" } }, required: ["text"] });
    const s = "Zeichen: ä € 😀 \u2028 <&>";
    const result = await c.call("echo", { text: s });
    equal(text(result), s);
    equal(result.structuredContent, { text: s });
    ok((await c.call("test_error_handling", {})).isError);
    const strange = await c.call("no such tool", {}).then((r) => r.isError && "a result", (e) => e.code);
    ok(strange === -32602 || strange === "a result", `a call of an unknown tool ends with ${strange}`);
  },

  async content(c) {
    equal((await c.prompts()).length, 5);
    ok(JSON.stringify(await c.prompt("test_prompt_with_arguments", { arg1: "a", arg2: "b" })).includes("arg1='a', arg2='b'"));
    equal((await c.resources()).length, 3);
    equal((await c.templates()).length, 1);
    equal((await c.read("test://static-text")).contents[0].text, "This is the content of the static text resource.");
    equal(JSON.parse((await c.read("test://template/7/data")).contents[0].text).id, "7");
    const argument = { name: "arg1", value: "par" };
    equal((await c.complete({ type: "ref/prompt", name: "test_prompt_with_arguments" }, argument)).completion.values, ["paris", "park", "party"]);
    const missing = await c.read("test://missing").then(() => "nothing", (e) => e.code);
    ok(missing === -32602 || (missing === -32002 && !c.modern), `a missing resource ends with ${missing}`);
  },

  async progress(c) {
    const seen = [];
    const result = await c.call("slow", { key: c.name + "-progress", steps: 5, ms: 50 }, { onprogress: onlyOf((p) => seen.push([p.progress, p.total])) });
    equal(text(result), `done ${c.name}-progress`);
    equal(seen, [1, 2, 3, 4, 5].map((n) => [n, 5]));
  },

  async parallel(c) {
    const calls = Array.from({ length: 8 }, async (_, i) => {
      const seen = [];
      const key = `${c.name}-parallel-${i}`;
      const result = await c.call("slow", { key, steps: i + 1, ms: 30 }, { onprogress: onlyOf((p) => seen.push(p.total)) });
      equal(text(result), `done ${key}`);
      equal(seen, Array(i + 1).fill(i + 1));
    });
    await Promise.all(calls);
  },

  async cancellation(c) {
    const key = c.name + "-cancelled";
    const stop = new AbortController();
    const ended = c.call("slow", { key, steps: 200, ms: 100 }, { signal: stop.signal, onprogress: onlyOf(() => stop.abort("enough")) })
      .then(() => "result", () => "error");
    equal(await ended, "error");
    await eventually("the server knows that the call was cancelled", () => notes().includes(`cancelled ${key}`));
  },

  async sampling(c) {
    equal(JSON.parse(text(await c.call("ask", { what: "sampling", text: "hello" }))).content.text, `${c.name} says hello`);
  },

  async elicitation(c) {
    equal(JSON.parse(text(await c.call("ask", { what: "elicitation", text: "hello" }))), { action: "accept", content: { name: c.name, answer: `${c.name} fills in hello` } });
    // It asks for three things at once.
    ok(text(await c.call("test_input_required_result_multiple_inputs", {})).startsWith(`${c.name} says Generate a greeting`));
  },

  async roots(c) {
    equal(JSON.parse(text(await c.call("ask", { what: "roots" }))).roots, [{ uri: `file:///home/${c.name}`, name: c.name }]);
  },

  async subscriptions(c) {
    const updated = [];
    c.on("notifications/resources/updated", (params) => updated.push(params.uri));
    // hear touches a resource until its updates have arrived twice. What came before the
    // second time was sent before it: only updates of the same moment come in any order.
    const hear = async (uri) => {
      for (let i = 0; i < 2; i++) {
        const n = updated.length;
        await c.call("touch", { uri });
        await eventually(`an update of ${uri} arrives`, () => updated.includes(uri, n));
      }
    };
    let unsubscribe = await c.subscribe(watched);
    await c.call("touch", { uri: other });
    await hear(watched);
    equal([...new Set(updated)], [watched]);
    await unsubscribe();
    unsubscribe = await c.subscribe(other);
    updated.length = 0;
    await c.call("touch", { uri: watched });
    await hear(other);
    equal([...new Set(updated)], [other]);
    await unsubscribe();
  },

  async changes(c) {
    let tools = 0, prompts = 0;
    c.on("notifications/tools/list_changed", () => tools++);
    c.on("notifications/prompts/list_changed", () => prompts++);
    const stop = await c.listen();
    await c.call("test_trigger_tool_change", {});
    await eventually("the change of tools is announced", () => tools > 0);
    equal(prompts, 0);
    await c.call("test_trigger_prompt_change", {});
    await eventually("the change of prompts is announced", () => prompts > 0);
    await stop();
  },

  async logging(c) {
    const seen = [];
    c.on("notifications/message", (params) => seen.push(params.data));
    await c.setLevel("warning");
    await c.call("log", { level: "info", data: `${c.name} info` });
    await c.call("log", { level: "error", data: `${c.name} error` });
    await eventually("the log message arrives", () => seen.length > 0);
    equal(seen, [`${c.name} error`]);
  },

  // Another client without these capabilities works at the same time. Neither gets a
  // request or notification of the other.
  async isolation(c, connect) {
    const asked = [];
    const log = [];
    const other = await connect({
      name: c.name + "-other", capabilities: { roots: {} },
      answers: { "roots/list": () => ({ roots: [{ uri: `file:///home/${c.name}-other` }] }) },
      stray: (method) => asked.push(method),
    });
    other.on("notifications/message", (params) => log.push(params.data));
    try {
      const mine = async () => {
        for (let i = 0; i < 3; i++) {
          equal(JSON.parse(text(await c.call("ask", { what: "sampling", text: `${i}` }))).content.text, `${c.name} says ${i}`);
          equal(JSON.parse(text(await c.call("ask", { what: "elicitation", text: `${i}` }))).content.answer, `${c.name} fills in ${i}`);
        }
      };
      const others = async () => {
        for (let i = 0; i < 6; i++) {
          equal(JSON.parse(text(await other.call("ask", { what: "roots" }))).roots[0].uri, `file:///home/${c.name}-other`);
          const seen = [];
          await other.call("slow", { key: other.name, steps: 2, ms: 5 }, { onprogress: onlyOf((p) => seen.push(p.progress)) });
          equal(seen, [1, 2]);
        }
      };
      await Promise.all([mine(), others()]);
      const who = JSON.parse(text(await other.call("whoami", {})));
      equal(who.client.name, other.name);
      ok(!who.capabilities.sampling && !who.capabilities.elicitation, JSON.stringify(who));
      equal(asked, []);
      equal(log, []);
    } finally {
      await other.close();
    }
  },
};

// main runs all checks and prints what failed, as one line of JSON.
//   node SCRIPT URL REVISION NAME
export async function main(connect) {
  const [url, revision, name] = process.argv.slice(2);
  const open = (options) => connect(url, revision, options);
  const result = {};
  const c = await open(all(name));
  result.connect = c.version === revision ? "" : `the version is ${c.version}`;
  for (const [check, run] of Object.entries(checks)) {
    try {
      const late = sleep(40000, undefined, { ref: false }).then(() => { throw new Error("not within 40 s"); });
      await Promise.race([run(c, open), late]);
      result[check] = "";
    } catch (e) {
      result[check] = String(e?.message ?? e).slice(0, 500) || "failed";
      if (process.env.STACK) console.error(check, e);
    }
  }
  await c.close().catch(() => {});
  await new Promise((done) => process.stdout.write(JSON.stringify(result) + "\n", done));
  process.exit(0);
}
