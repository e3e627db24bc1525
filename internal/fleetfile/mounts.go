package fleetfile

import (
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// mounts decodes a list of SOURCE:TARGET[:ro] or of mappings.
func (d *serverDecoder) mounts(n *yaml.Node, at string) {
	list := resolve(n)
	if isNull(list) {
		return
	}
	if list.Kind != yaml.SequenceNode {
		d.malformed(n, at, "must be a list of mounts, as /source:/target:ro, not %s", describe(list))
		return
	}
	for _, c := range list.Content {
		var m fleet.Mount
		if resolve(c).Kind != yaml.MappingNode {
			if s, ok := d.text(c, at, "a mount, as /source:/target:ro"); ok {
				d.addVolume(c, at, s)
			}
			continue
		}
		before := len(d.errs)
		d.section(c, at, mountShape, []string{"bind", "tmpfs", "type", "volume"}, func(e entry, at string, _ keyShape) {
			switch e.key {
			case "source":
				set(&m.Source)(d.str(e.value, at))
			case "target":
				set(&m.Target)(d.str(e.value, at))
			case "read_only":
				set(&m.ReadOnly)(d.boolean(e.value, at))
			}
		})
		if len(d.errs) == before {
			d.addMount(c, at, m)
		}
	}
}

// addVolume takes a mount in the short form of docker and Compose.
func (d *serverDecoder) addVolume(n *yaml.Node, at, volume string) {
	parts := strings.Split(volume, ":")
	if len(parts) < 2 || len(parts) > 3 {
		d.errorf(n, at, "must be a mount, as /source:/target:ro")
		return
	}
	m := fleet.Mount{Source: parts[0], Target: parts[1]}
	if len(parts) == 3 {
		for opt := range strings.SplitSeq(parts[2], ",") {
			switch opt {
			case "ro", "readonly":
				m.ReadOnly = true
			case "rw":
			default:
				d.errorf(n, at, "the only options of a mount are ro and rw")
				return
			}
		}
	}
	d.addMount(n, at, m)
}

var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// addMount checks a mount. Its source is a path, or the name of a volume.
func (d *serverDecoder) addMount(n *yaml.Node, at string, m fleet.Mount) {
	switch {
	case m.Source == "":
		d.errorf(n, at, "a mount needs a source")
		return
	case !path.IsAbs(m.Target):
		d.errorf(n, at, "a mount needs an absolute path as its target")
		return
	case strings.HasPrefix(m.Source, "~"):
		d.errorf(n, at, "the source of a mount cannot begin with ~; use ${HOME}")
		return
	case strings.ContainsAny(m.Source+m.Target, ",:\n"):
		d.errorf(n, at, "the paths of a mount must not contain commas, colons or line ends")
		return
	case strings.HasPrefix(m.Source, ".") && d.literal:
		d.errorf(n, at, "the source of a mount must be an absolute path, or the name of a volume")
		return
	case strings.HasPrefix(m.Source, "."):
		m.Source = d.absolute(m.Source)
	case !filepath.IsAbs(m.Source) && !volumeName.MatchString(m.Source):
		d.errorf(n, at, "the source of a mount must be a path that begins with / or ., or the name of a volume")
		return
	}
	for _, other := range d.spec.Mounts {
		if other.Target == m.Target {
			d.errorf(n, at, "two mounts have the target %s", m.Target)
			return
		}
	}
	d.spec.Mounts = append(d.spec.Mounts, m)
}
