package fleet

// Catalogue is what a replica offers, as the server sent it.
type Catalogue struct {
	Hash         string   // of all below
	Protocol     string   // negotiated protocol version
	ServerInfo   []byte   // raw JSON object
	Capabilities []byte   // raw JSON object
	Instructions string   // may be empty
	Tools        [][]byte // raw JSON objects in the server's order

	// Era is that of the conversation: EraLegacy or EraModern. "" comes from a worker
	// of an earlier version, and means EraLegacy.
	Era Era `json:",omitempty"`
	// Versions are the protocol versions that a modern server supports, as it sent them.
	Versions []string `json:",omitempty"`
	// Raw JSON objects in the server's order. They are empty if the server did not
	// declare the capability, or failed to list them.
	Resources [][]byte `json:",omitempty"`
	Templates [][]byte `json:",omitempty"` // of resources
	Prompts   [][]byte `json:",omitempty"`
	// Hints are a modern server's, by the method of the list (tools/list, prompts/list,
	// resources/list, resources/templates/list) and of server/discover.
	Hints map[string]CacheHint `json:",omitempty"`
}

// IsModern reports whether the replica's conversation is of the modern era.
func (c *Catalogue) IsModern() bool { return c.Era == EraModern }

// CacheHint says how long and by whom a result may be cached.
type CacheHint struct {
	TTLMs int64  // milliseconds
	Scope string // "public" or "private"
}

// Era is an era of the protocol.
type Era string

// The eras. A template with EraAuto leaves it to the worker to find out.
const (
	EraAuto   Era = ""       // "auto" in a fleet file
	EraLegacy Era = "legacy" // a conversation begins with initialize
	EraModern Era = "modern" // every request carries its version and its client's capabilities
)
