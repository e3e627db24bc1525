package fleetfile

import (
	"path"
	"slices"
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
		d.malformed(n, at, "must be a list of mounts, such as /source:/target:ro, not %s", describe(list))
		return
	}
	for _, c := range list.Content {
		var m fleet.Mount
		if resolve(c).Kind != yaml.MappingNode {
			if s, ok := d.text(c, at, "a mount, such as /source:/target:ro"); ok {
				d.addVolume(c, at, s)
			}
			continue
		}
		before := len(d.errs)
		d.section(c, at, mountShape, []string{"bind", "tmpfs", "type", "volume"}, func(e entry, at string, k keyShape) {
			switch e.key {
			case "source":
				set(&m.Source)(d.str(e.value, at))
			case "target":
				set(&m.Target)(d.str(e.value, at))
			case "read_only":
				set(&m.ReadOnly)(d.boolean(e.value, at))
			case "selinux":
				set(&m.SELinux)(d.choice(e.value, at, k))
			}
		})
		if len(d.errs) == before {
			d.addMount(c, at, m)
		}
	}
}

// addVolume adds a mount in the short form of docker and Compose.
func (d *serverDecoder) addVolume(n *yaml.Node, at, volume string) {
	parts := strings.Split(volume, ":")
	if len(parts) >= 3 && len(parts[0]) == 1 && strings.HasPrefix(parts[2], "/") {
		d.errorf(n, at, "the source of the mount is a Windows path, but replicas run on Linux; write the path of the node, such as /mnt/c/...")
		return
	}
	if len(parts) < 2 || len(parts) > 3 {
		d.errorf(n, at, "must be a mount, such as /source:/target:ro")
		return
	}
	m := fleet.Mount{Source: parts[0], Target: parts[1]}
	if len(parts) == 3 {
		for opt := range strings.SplitSeq(parts[2], ",") {
			switch {
			case opt == "ro" || opt == "readonly":
				m.ReadOnly = true
			case opt == "rw":
			case opt == "z" || opt == "Z":
				m.SELinux = opt
			case d.fromRun && slices.Contains(idleMountOptions, opt):
				d.drop("-v ...:" + opt)
			default:
				d.errorf(n, at, "the only options of a mount are ro, rw, z and Z")
				return
			}
		}
	}
	d.addMount(n, at, m)
}

// idleMountOptions are options of docker's and podman's mounts that have no
// effect on a server here, or none on Linux.
var idleMountOptions = []string{
	"bind", "cached", "consistent", "copy", "delegated", "dev", "exec", "nocopy", "nodev", "noexec", "nosuid", "private", "rbind", "rprivate", "rshared",
	"rslave", "shared", "slave", "suid", "U",
}

// addMount checks and adds a mount. Its source is a path, or the name of a
// volume.
func (d *serverDecoder) addMount(n *yaml.Node, at string, m fleet.Mount) {
	switch {
	case strings.HasPrefix(m.Source, "~"):
		d.errorf(n, at, "the source of a mount cannot begin with ~; use ${HOME}")
		return
	case strings.HasPrefix(m.Source, ".") && !d.literal:
		m.Source = d.absolute(m.Source)
	}
	if err := m.Check(); err != nil {
		d.errorf(n, at, "%s", err)
		return
	}
	for _, other := range d.spec.Mounts {
		if path.Clean(other.Target) == path.Clean(m.Target) {
			d.errorf(n, at, "two mounts have the target %s", m.Target)
			return
		}
	}
	d.spec.Mounts = append(d.spec.Mounts, m)
}
