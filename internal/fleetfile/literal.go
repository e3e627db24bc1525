package fleetfile

import (
	"errors"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// ParseLiteral parses a fleet file without variables: a dollar sign is literal,
// and there is no environment and no directory for relative paths. It is for
// files from another machine, whose sender has replaced the variables.
func ParseLiteral(data []byte, opts Options) (*File, error) {
	return newLiteralParser(opts).file(data)
}

// ParseServer parses the mapping of one server as ParseLiteral does. Paths in its
// Errors and warnings begin with the keys of that mapping.
func ParseServer(name fleet.ServerName, data []byte, opts Options) (fleet.Spec, []Warning, error) {
	p := newLiteralParser(opts)
	p.body = true
	if why := badName(string(name)); why != "" {
		p.errorf(nil, "", "%s", why)
		return fleet.Spec{}, nil, p.errs
	}
	f := &File{Servers: map[fleet.ServerName]fleet.Spec{}}
	if root := p.document(data); root != nil {
		p.clients = p.ofVSCode(root)
		spec, keep := p.server(entry{key: string(name), keyNode: root, value: root}, "", string(name), p.clients)
		if keep {
			f.Servers[name] = spec
		} else if len(p.errs) == 0 && len(p.remote) == 0 {
			p.errorf(root, "disabled", "a server cannot be switched off; replicas: 0 stops it")
		}
		p.summary(f)
	}
	if err := p.errs.orNil(); err != nil {
		return fleet.Spec{}, nil, err
	}
	return f.Servers[name], f.Warnings, nil
}

func newLiteralParser(opts Options) *parser {
	opts.Lookup = nil
	p := newParser(opts)
	p.literal = true
	return p
}

// emptyMsg returns the message for an empty document.
func (p *parser) emptyMsg() string {
	if p.body {
		return "the spec is empty; a server needs an image or a command"
	}
	return "the file is empty; it needs a key named servers"
}

// missing returns the error for a variable that does not exist.
func (p *parser) missing(name string) error {
	if p.literal {
		return errors.New("needs a value: there is no environment to take it from")
	}
	return missing(name)
}
