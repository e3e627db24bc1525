package fleetfile

import (
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// oneAtATime are servers that lose data if calls run concurrently: they read a
// file, change it and write it back without a lock. This was seen with 60
// changes, 8 at a time; docs/FLEETFILE.md has the figures.
var oneAtATime = []struct{ npm, image string }{
	{"@modelcontextprotocol/server-memory", "docker.io/mcp/memory"},
	{"@modelcontextprotocol/server-filesystem", "docker.io/mcp/filesystem"},
}

// checkConcurrency adds a server to a warning if it is known to lose data with
// concurrent calls, and the file does not set their number.
func (d *serverDecoder) checkConcurrency() {
	if _, given := d.given["max_ongoing_requests"]; given {
		return
	}
	if len(d.spec.Mounts) > 0 && !slices.ContainsFunc(d.spec.Mounts, func(m fleet.Mount) bool { return !m.ReadOnly }) {
		return // it cannot change anything
	}
	words := append(slices.Clone(d.spec.Command), d.spec.Args...)
	for _, known := range oneAtATime {
		if imageName(d.spec.Image) == known.image {
			d.losing = addNamed(d.losing, known.image, d.shown)
		}
		if d.spec.Image == "" && slices.ContainsFunc(words, func(word string) bool { return word == known.npm || strings.HasPrefix(word, known.npm+"@") }) {
			d.losing = addNamed(d.losing, known.npm, d.shown)
		}
	}
}

// imageName returns the full name of an image, without tag and digest.
func imageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	if strings.HasPrefix(image, "mcp/") {
		image = "docker.io/" + image
	}
	return image
}
