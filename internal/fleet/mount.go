package fleet

import (
	"errors"
	"path"
	"regexp"
	"strings"
	"unicode"
)

// Mount puts a path of the node, or a named volume of its podman, into a
// container.
type Mount struct {
	Source   string // an absolute path, or the name of a volume
	Target   string // an absolute path in the container
	ReadOnly bool
	// SELinux is how the source is labelled for containers: z shared, Z for
	// this one alone, "" not at all. Hosts without SELinux ignore it.
	SELinux string `json:",omitempty"`
}

var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// IsVolume reports whether the source is the name of a volume.
func (m Mount) IsVolume() bool { return volumeName.MatchString(m.Source) }

// Check returns the error of the mount, or nil. Package fleetfile refuses mounts that
// fail it.
func (m Mount) Check() error {
	both := m.Source + m.Target
	switch {
	case m.Source == "":
		return errors.New("a mount needs a source")
	case !path.IsAbs(m.Target):
		return errors.New("a mount needs an absolute path as its target")
	case path.Clean(m.Target) == "/":
		return errors.New("the target of a mount cannot be /, which is the image's own")
	case strings.ContainsAny(both, ",:") || strings.ContainsFunc(both, unicode.IsControl):
		return errors.New("the paths of a mount must not contain commas, colons or line ends")
	case !path.IsAbs(m.Source) && !m.IsVolume():
		return errors.New("the source of a mount must be an absolute path, or the name of a volume")
	case m.SELinux != "" && m.SELinux != "z" && m.SELinux != "Z":
		return errors.New("the SELinux label of a mount is z or Z")
	}
	return nil
}
