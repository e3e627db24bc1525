package catalogue

import (
	"strconv"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

// quote shows a name. It comes from a caller and may be of any length.
func quote(name string) string {
	if len(name) > nearest.MaxName {
		return strconv.Quote(strings.ToValidUTF8(name[:nearest.MaxName], "")) + "..."
	}
	return strconv.Quote(name)
}
