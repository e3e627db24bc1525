package fleet

import "strings"

// Scope names an MCP endpoint: the name of a server, "g/" and the name of a gateway,
// or "" for the root, where all servers are merged.
type Scope string

// gatewayPrefix begins the scopes of gateways. It is a reserved server name.
const gatewayPrefix = "g/"

// GatewayScope returns the scope of a gateway.
func GatewayScope(name string) Scope { return Scope(gatewayPrefix + name) }

// Server returns the server of an endpoint, "" for one that merges several.
func (s Scope) Server() ServerName {
	if strings.HasPrefix(string(s), gatewayPrefix) {
		return ""
	}
	return ServerName(s)
}

// Gateway returns the name of the gateway, "" for other endpoints.
func (s Scope) Gateway() string {
	name, isGateway := strings.CutPrefix(string(s), gatewayPrefix)
	if !isGateway {
		return ""
	}
	return name
}

// ViewInfo describes an MCP endpoint as its clients see it.
type ViewInfo struct {
	// Modern is set for an endpoint of one server, of the modern era.
	Modern       bool
	Protocol     string   // the newest version of the legacy era that is offered
	Versions     []string // of the modern era that are offered
	ServerInfo   []byte   // raw JSON object
	Capabilities []byte   // raw JSON object
	Instructions string
	Hint         CacheHint
}

// ViewList is one list of an MCP endpoint, with all its pages.
type ViewList struct {
	Items []byte // raw JSON array
	Hash  string // differs when the items do
	Hint  CacheHint
	// Meta has raw members for the _meta of the result, without braces. It may be nil.
	Meta []byte
}

// Destination is where a name or URI at an MCP endpoint leads to.
type Destination struct {
	Server     ServerName
	Modern     bool   // the server is of the modern era
	Name       string // or URI, as the server itself knows it
	Idempotent bool   // the request may be sent twice
	PerSession bool   // each session has a replica of the server to itself
	// Guess means that nothing the server lists says that it has this.
	Guess bool
	// Schema is the raw JSON schema of a tool's arguments if it asks for headers, see
	// x-mcp-header. It is nil for all others.
	Schema []byte
	// Result rewrites names and URIs in a result from there to those of the
	// endpoint. Nil: they are the same.
	Result func(method string, result []byte) []byte
}
