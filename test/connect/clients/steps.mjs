// The steps that every client takes. Prints a line "cut" when the controller may be lost, and waits for
// a line on stdin. At the end it prints what it saw as one line of JSON.
import { createInterface } from "node:readline";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function cut() {
  console.log("cut");
  await lines.next();
}

const text = (result) => result.content[0].text;

export async function steps({ client, prefix = "" }) {
  const seen = { server: client.getServerVersion().name };
  seen.tools = (await client.tools()).map((t) => t.name).sort();
  seen.echo = text(await client.call(prefix + "echo", { text: "grüße\u2028\n" }));
  const large = "x".repeat(3 << 20);
  seen.large = text(await client.call(prefix + "echo", { text: large })) === large;
  seen.unknown = await client.call(prefix + "nope", {}).then(() => "no error", (e) => e.code);
  const together = Array.from({ length: 50 }, (_, i) => client.call(prefix + "echo", { text: String(i) }));
  seen.together = (await Promise.all(together)).every((r, i) => text(r) === String(i));

  const abort = new AbortController();
  seen.cancelled = await client.call(prefix + "slow", { seconds: 5 }, { signal: abort.signal, onprogress: () => abort.abort() })
    .then(() => "no error", () => true);

  let progress = 0;
  seen.during = await new Promise((resolve) => {
    const call = client.call(prefix + "slow", { seconds: 3 }, {
      onprogress: async ({ progress: now }) => {
        if (now <= progress) resolve("progress goes back");
        progress = now;
        if (now === 1) await cut();
      },
    });
    call.then((r) => resolve(text(r)), (e) => resolve(e.code));
  });
  seen.progress = progress;
  seen.after = text(await client.call(prefix + "echo", { text: "after" }));
  seen.toolsAfter = (await client.tools()).length === seen.tools.length;
  await client.close();
  console.log(JSON.stringify(seen));
  process.exit(0);
}
