// The official TypeScript SDK 1.x.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CreateMessageRequestSchema, ElicitRequestSchema, ListRootsRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { main } from "./checks.mjs";

const schemas = { "sampling/createMessage": CreateMessageRequestSchema, "elicitation/create": ElicitRequestSchema, "roots/list": ListRootsRequestSchema };

await main(async (url, revision, { name, capabilities, answers, stray }) => {
  const client = new Client({ name, version: "1" }, { capabilities });
  for (const [method, answer] of Object.entries(answers)) client.setRequestHandler(schemas[method], (request) => answer(request.params));
  client.fallbackRequestHandler = async (request) => { stray?.(request.method); throw new Error("not for me"); };
  const handlers = {};
  client.fallbackNotificationHandler = async (n) => handlers[n.method]?.(n.params);
  const sse = url.endsWith("/sse"); // the deprecated transport
  const transport = sse ? new SSEClientTransport(new URL(url)) : new StreamableHTTPClientTransport(new URL(url));
  await client.connect(transport);
  if (sse) { // the SDK looks at progress that it reads together with the answer when it has forgotten the request
    const pass = transport.onmessage;
    transport.onmessage = (m) => (m.method ? pass(m) : setImmediate(pass, m));
  }
  return {
    name,
    modern: false,
    version: transport.protocolVersion ?? transport._protocolVersion,
    on: (method, handler) => { handlers[method] = handler; },
    list: async () => (await client.listTools()).tools,
    call: (tool, args, { onprogress, signal } = {}) => client.callTool({ name: tool, arguments: args }, undefined, { onprogress, signal }),
    prompts: async () => (await client.listPrompts()).prompts,
    prompt: (name, args) => client.getPrompt({ name, arguments: args }),
    resources: async () => (await client.listResources()).resources,
    templates: async () => (await client.listResourceTemplates()).resourceTemplates,
    read: (uri) => client.readResource({ uri }),
    complete: (ref, argument) => client.complete({ ref, argument }),
    subscribe: async (uri) => {
      await client.subscribeResource({ uri });
      return () => client.unsubscribeResource({ uri });
    },
    listen: async () => async () => {},
    setLevel: (level) => client.setLoggingLevel(level),
    close: async () => {
      if (!sse) await transport.terminateSession();
      await client.close();
    },
  };
});
