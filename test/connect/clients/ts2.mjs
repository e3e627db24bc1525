// The official TypeScript SDK 2.x over stdio.   node ts2.mjs legacy|REVISION PREFIX COMMAND [ARG...]
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { steps } from "./steps.mjs";

const [era, prefix, command, ...args] = process.argv.slice(2);
const mode = era === "legacy" ? era : { pin: era };
const client = new Client({ name: "ts2", version: "1" }, { capabilities: { roots: {} }, versionNegotiation: { mode } });
await client.connect(new StdioClientTransport({ command, args, env: process.env, stderr: "inherit" }));
await steps({
  prefix,
  client: {
    getServerVersion: () => client.getServerVersion(),
    tools: async () => (await client.listTools()).tools,
    call: (name, args, options) => client.callTool({ name, arguments: args }, options),
    close: () => client.close(),
  },
});
