package catalogue

import (
	"strconv"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

// quote returns a caller's name for a message. A long one is cut.
func quote(name string) string {
	if len(name) > nearest.MaxName {
		return strconv.Quote(strings.ToValidUTF8(name[:nearest.MaxName], "")) + "..."
	}
	return strconv.Quote(name)
}
