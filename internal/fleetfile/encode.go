package fleetfile

import (
	"encoding/json"
	"fmt"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Encode returns a fleet file as JSON, with every default written out. The bytes
// are always the same for the same file, and ParseLiteral parses them to the
// same file. They contain secrets.
func Encode(f *File) ([]byte, error) {
	doc := document{DefaultServer: f.DefaultServer, Servers: make(map[fleet.ServerName]ServerView, len(f.Servers))}
	for name, spec := range f.Servers {
		doc.Servers[name] = viewOf(&spec)
	}
	for name, g := range f.Gateways {
		if doc.Gateways == nil {
			doc.Gateways = make(map[fleet.GatewayName]GatewayView, len(f.Gateways))
		}
		doc.Gateways[name] = ViewGateway(&g)
	}
	out, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode the fleet file: %w", err)
	}
	return out, nil
}
