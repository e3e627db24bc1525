// The official TypeScript SDK 1.x over stdio.   node ts1.mjs PREFIX COMMAND [ARG...]
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { steps } from "./steps.mjs";

const [prefix, command, ...args] = process.argv.slice(2);
const client = new Client({ name: "ts1", version: "1" }, { capabilities: { roots: {} } });
await client.connect(new StdioClientTransport({ command, args, env: process.env, stderr: "inherit" }));
await steps({
  prefix,
  client: {
    getServerVersion: () => client.getServerVersion(),
    tools: async () => (await client.listTools()).tools,
    call: (name, args, options) => client.callTool({ name, arguments: args }, undefined, options),
    close: () => client.close(),
  },
});
