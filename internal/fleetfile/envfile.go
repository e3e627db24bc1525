package fleetfile

import (
	"errors"
	"io/fs"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readEnvFile reads the variables of a file in the form of shells and editors:
// NAME=VALUE lines, comments, quotes. Variables of env take precedence.
func (d *serverDecoder) readEnvFile(n *yaml.Node, at string) {
	name, ok := d.str(n, at)
	if !ok {
		return
	}
	text, ok := d.readNamed(n, at, name)
	if !ok {
		return
	}
	for _, line := range linesOf(text) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
		name, value, has := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if line == "" || line[0] == '#' || !has || badEnvName(name) != "" {
			continue
		}
		d.fileEnv(name, dotenvValue(strings.TrimSpace(value)))
	}
}

// dotenvValue removes the quotes around a value, or the comment after it.
func dotenvValue(s string) string {
	if len(s) > 1 && (s[0] == '"' || s[0] == '\'') {
		if end := strings.LastIndexByte(s, s[0]); end > 0 {
			inner := s[1:end]
			if s[0] == '"' {
				inner = strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\"`, `"`, `\\`, `\`).Replace(inner)
			}
			return inner
		}
	}
	if i := strings.Index(s, " #"); i >= 0 {
		s = strings.TrimSpace(s[:i])
	}
	return s
}

// runEnvFile reads the variables of a file as `docker run --env-file` does. It
// keeps quotes, and takes the value of a bare name from the environment.
func (d *serverDecoder) runEnvFile(it item, name string) {
	text, ok := d.readNamed(it.node, it.path, name)
	if !ok {
		return
	}
	for _, line := range linesOf(text) {
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, has := strings.Cut(line, "=")
		if badEnvName(name) != "" {
			d.errorf(it.node, it.path, "the file has a line that does not begin with a valid name for a variable")
			return
		}
		if !has {
			if value, has = d.runEnvironment(name); !has {
				continue
			}
		}
		d.fileEnv(name, value)
	}
}

// readNamed reads a file that the fleet file names.
func (d *serverDecoder) readNamed(n *yaml.Node, at, name string) (string, bool) {
	if d.opts.ReadFile == nil {
		d.errorf(n, at, "names a file, but a controller cannot read the files of the sender: put its variables into env")
		return "", false
	}
	data, err := d.opts.ReadFile(d.absolute(name))
	if err != nil {
		if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
			err = pe.Err // without the path, which may come from a variable
		}
		d.errorf(n, at, "the file %s cannot be read: %s", describe(resolve(n)), err)
		return "", false
	}
	if why := badText(string(data)); why != "" {
		d.errorf(n, at, "the file %s %s", describe(resolve(n)), why)
		return "", false
	}
	return strings.TrimPrefix(string(data), "\ufeff"), true
}

// fileEnv sets a variable of a file. The last one of a name counts.
func (d *serverDecoder) fileEnv(name, value string) {
	if d.envOfFiles == nil {
		d.envOfFiles = map[string]string{}
	}
	d.envOfFiles[name] = value
}

// addFileEnv adds the variables of files to env. Those of env take precedence.
func (d *serverDecoder) addFileEnv() {
	for name, value := range d.envOfFiles {
		if _, has := d.spec.Env[name]; has {
			continue
		}
		if d.spec.Env == nil {
			d.spec.Env = map[string]string{}
		}
		d.spec.Env[name] = value
	}
	d.envOfFiles = nil
}

func linesOf(text string) []string {
	return strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
}
