package fleetfile

import (
	"encoding/json"
	"fmt"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Encode writes a fleet file as JSON with every default spelled out: always
// the same bytes for the same file, and ParseLiteral reads the same file from
// them. Secrets are in it.
func Encode(f *File) ([]byte, error) {
	doc := document{DefaultServer: f.DefaultServer, Servers: make(map[fleet.ServerName]ServerView, len(f.Servers))}
	for name, spec := range f.Servers {
		doc.Servers[name] = viewOf(&spec)
	}
	out, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode the fleet file: %w", err)
	}
	return out, nil
}
