// The official TypeScript SDK 2.x, in either era.
import { Client, LOG_LEVEL_META_KEY, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { main } from "./checks.mjs";

await main(async (url, revision, { name, capabilities, answers, stray }) => {
  const modern = revision >= "2026";
  const client = new Client({ name, version: "1" }, { capabilities, versionNegotiation: { mode: modern ? { pin: revision } : "legacy" } });
  for (const [method, answer] of Object.entries(answers)) client.setRequestHandler(method, (request) => answer(request.params));
  client.fallbackRequestHandler = async (request) => { stray?.(request.method); throw new Error("not for me"); };
  const handlers = {};
  client.fallbackNotificationHandler = async (n) => handlers[n.method]?.(n.params);
  const transport = new StreamableHTTPClientTransport(new URL(url));
  await client.connect(transport);
  let level;
  return {
    name,
    modern,
    version: client.getNegotiatedProtocolVersion(),
    on: (method, handler) => { handlers[method] = handler; },
    list: async () => (await client.listTools()).tools,
    call: (tool, args, { onprogress, signal } = {}) => {
      const _meta = level && { [LOG_LEVEL_META_KEY]: level };
      return client.callTool({ name: tool, arguments: args, ...(_meta && { _meta }) }, { onprogress, signal });
    },
    prompts: async () => (await client.listPrompts()).prompts,
    prompt: (name, args) => client.getPrompt({ name, arguments: args }),
    resources: async () => (await client.listResources()).resources,
    templates: async () => (await client.listResourceTemplates()).resourceTemplates,
    read: (uri) => client.readResource({ uri }),
    complete: (ref, argument) => client.complete({ ref, argument }),
    subscribe: async (uri) => {
      if (modern) {
        const subscription = await client.listen({ resourceSubscriptions: [uri] });
        return () => subscription.close();
      }
      await client.subscribeResource({ uri });
      return () => client.unsubscribeResource({ uri });
    },
    listen: async () => {
      if (!modern) return async () => {};
      const subscription = await client.listen({ toolsListChanged: true, promptsListChanged: true });
      return () => subscription.close();
    },
    setLevel: async (wanted) => {
      if (modern) level = wanted;
      else await client.setLoggingLevel(wanted);
    },
    close: async () => {
      await transport.terminateSession?.().catch(() => {});
      await client.close();
    },
  };
});
