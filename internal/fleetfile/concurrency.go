package fleetfile

import (
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// oneAtATime are servers that lose data when calls run at once, as seen in a
// run of 60 changes, 8 at a time: they read a file, change it and write it back
// without a lock. docs/FLEETFILE.md has the figures.
var oneAtATime = []struct{ npm, image string }{
	{"@modelcontextprotocol/server-memory", "docker.io/mcp/memory"},
	{"@modelcontextprotocol/server-filesystem", "docker.io/mcp/filesystem"},
}

// checkConcurrency names a server in a warning if it is known to lose data when
// calls run at once, and the file does not say how many may.
func (d *serverDecoder) checkConcurrency() {
	if _, given := d.given["max_ongoing_requests"]; given {
		return
	}
	if len(d.spec.Mounts) > 0 && !slices.ContainsFunc(d.spec.Mounts, func(m fleet.Mount) bool { return !m.ReadOnly }) {
		return // there is nothing that it could change
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

// imageName is an image's name in full, without its tag and digest.
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
