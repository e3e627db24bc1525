package controller

import (
	"errors"
	"fmt"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/httpapi"
)

// starting is the catalogue of a controller that may not know of all servers
// yet: until it does, what it does not know may be there. Callers are told to
// come back, not that there is no such thing.
type starting struct {
	httpapi.Catalogue
	incomplete func() string // why servers may be missing; "" once none is
	empty      func() bool   // no server is known
}

// Tools implements httpapi.Catalogue.
func (s *starting) Tools(server fleet.ServerName) ([]byte, error) {
	list, err := s.Catalogue.Tools(server)
	if err == nil && server == "" && s.empty() {
		if why := s.incomplete(); why != "" {
			return nil, notYet(why)
		}
	}
	return list, s.told(err)
}

// Resolve implements httpapi.Catalogue.
func (s *starting) Resolve(server fleet.ServerName, tool string) (fleet.Tool, error) {
	t, err := s.Catalogue.Resolve(server, tool)
	return t, s.told(err)
}

// Default implements httpapi.Catalogue.
func (s *starting) Default(server fleet.ServerName) (fleet.Tool, error) {
	t, err := s.Catalogue.Default(server)
	return t, s.told(err)
}

func (s *starting) told(err error) error {
	if err == nil || !errors.Is(err, fleet.ErrUnknownServer) && !errors.Is(err, fleet.ErrUnknownTool) && !errors.Is(err, fleet.ErrNoDefaultTool) {
		return err
	}
	if why := s.incomplete(); why != "" {
		return notYet(why)
	}
	return err
}

func notYet(why string) error { return fmt.Errorf("%w: %s", fleet.ErrCatalogueUnknown, why) }
