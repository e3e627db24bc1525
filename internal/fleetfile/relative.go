package fleetfile

import (
	"path/filepath"
	"strings"
)

// resolveRelative makes relative paths in a command independent of the
// directory that its worker runs in. They are looked for in the server's cwd,
// then in the file's directory. A process without a cwd runs in the file's
// directory if an argument is a path there. The argument then stays as it is.
func (d *serverDecoder) resolveRelative() {
	s := &d.spec
	if d.literal || s.Image != "" || len(s.Command) == 0 {
		return
	}
	dir := filepath.Dir(d.absolute("x"))
	found := func(base, path string) bool {
		if d.opts.Stat == nil || base == "" {
			return false
		}
		_, err := d.opts.Stat(filepath.Join(base, path))
		return err == nil
	}
	if program := s.Command[0]; isRelativePath(program) {
		if s.Cwd != "" && (found(s.Cwd, program) || !found(dir, program)) {
			s.Command[0] = filepath.Join(s.Cwd, program)
		} else {
			s.Command[0] = filepath.Join(dir, program)
		}
	}
	inDir := false
	for _, words := range [][]string{s.Command[1:], s.Args} {
		for i, word := range words {
			option, path := "", word
			if strings.HasPrefix(word, "-") {
				name, value, has := strings.Cut(word, "=")
				if !has {
					continue
				}
				option, path = name+"=", value
			}
			switch {
			case !d.meansFile(dir, path) || found(s.Cwd, path):
			case s.Cwd == "":
				inDir = true
			default:
				words[i] = option + filepath.Join(dir, path)
			}
		}
	}
	if inDir {
		s.Cwd = dir
	}
}

// meansFile reports whether an argument is a relative path that exists in a
// directory. A single word is one only if it is a file: many programs take the
// names of things that may also be directories.
func (d *serverDecoder) meansFile(dir, path string) bool {
	if d.opts.Stat == nil || path == "" || filepath.IsAbs(path) || strings.Contains(path, "://") || strings.ContainsRune(path, 0) {
		return false
	}
	info, err := d.opts.Stat(filepath.Join(dir, path))
	return err == nil && (isRelativePath(path) || path == "." || path == ".." || info.Mode().IsRegular())
}

// isRelativePath reports whether a word can only be a path, and a relative one.
func isRelativePath(word string) bool {
	return strings.Contains(word, "/") && !filepath.IsAbs(word) && !strings.Contains(word, "://")
}
