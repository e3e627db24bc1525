// Package conformance runs the official conformance suite of MCP, and official clients,
// against a fleet of two controllers and three workers.
//
// Behind the fleet are two servers that have everything the suite asks for: fixture/
// legacy.mjs on the official TypeScript SDK 1.x, and fixture/modern.mjs on 2.x. Both
// serve over stdio, as the fleet runs them, and over HTTP, where the suite reaches them
// without the fleet. What passes without the fleet must pass through it. TestClients has
// legacy.mjs a second time, as a server that all clients share. Tasks have servers of their
// own: fixture/coretasks.mjs on the SDK 1.x, and fixture/tasks.mjs, which needs none.
//
// All packages are pinned in packages/. To use a fleet that runs already, with servers
// named legacy, modern and shared, give its address:
//
//	go test ./test/conformance -run TestSuite -v -url http://localhost:8080
package conformance
