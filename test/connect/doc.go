// Package connect runs official clients of MCP against a fleet through
// mcpfleet connect, as clients that speak stdio only are configured to do: the
// official TypeScript SDK 1.x and 2.x in both eras, and the command line of the
// MCP Inspector, which also connects over HTTP.
//
// While a client calls, the controller that it is connected to is lost. All
// packages are pinned in packages/.
package connect
