package fleet

import (
	"errors"
	"fmt"
	"regexp"
)

var nodeName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

// CheckNodeID returns why a node cannot have this name, or nil. The name becomes a
// part of containers' names and of gossip's 512 bytes.
func CheckNodeID(n NodeID) error {
	switch {
	case n == "":
		return errors.New("a node needs a name")
	case !nodeName.MatchString(string(n)):
		return fmt.Errorf("%q cannot name a node: at most 63 letters, digits, dots, hyphens and underscores, beginning and ending with a letter or digit", string(n))
	}
	return nil
}
