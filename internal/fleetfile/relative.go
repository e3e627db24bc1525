package fleetfile

import (
	"path/filepath"
	"strings"
)

// resolveRelative makes relative paths in a command independent of the
// directory that its worker runs in. They are looked for in the server's cwd,
// then in those that the file may mean, see directories. A process without a cwd
// runs in the directory in which an argument is a path, and the argument then
// stays as it is.
func (d *serverDecoder) resolveRelative() {
	s := &d.spec
	if d.literal || s.Image != "" || len(s.Command) == 0 {
		return
	}
	// where returns the directory in which a path is found, or "".
	where := func(path string, in func(dir, path string) bool) string {
		for _, dir := range d.directories() {
			if in(dir, path) {
				return dir
			}
		}
		return ""
	}
	if program := s.Command[0]; isRelativePath(program) {
		dir := where(program, d.exists)
		switch {
		case s.Cwd != "" && (dir == "" || d.exists(s.Cwd, program)):
			dir = s.Cwd
		case dir == "":
			dir = d.directories()[0]
		}
		s.Command[0] = filepath.Join(dir, program)
	}
	runIn := ""
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
			dir := where(path, d.meansFile)
			switch {
			case dir == "" || d.exists(s.Cwd, path):
			case s.Cwd == "" && (runIn == "" || runIn == dir):
				runIn = dir
			default:
				words[i] = option + filepath.Join(dir, path)
			}
		}
	}
	if runIn != "" {
		s.Cwd = runIn
	}
}

// exists reports whether there is such a path in a directory; in "" there is
// none.
func (p *parser) exists(dir, path string) bool {
	if p.opts.Stat == nil || dir == "" {
		return false
	}
	_, err := p.opts.Stat(filepath.Join(dir, path))
	return err == nil
}

// absolute takes a relative path as Compose does: from the file's directory. A
// client takes it from the workspace folder, if the file is in .vscode or so.
func (p *parser) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	for _, dir := range p.directories() {
		if p.exists(dir, path) {
			return filepath.Join(dir, path)
		}
	}
	return filepath.Join(p.directories()[0], path)
}

// directories are those that relative paths may be meant from, the most likely
// one first.
func (p *parser) directories() []string {
	dir, folder := p.directory(), p.workspaceFolder()
	if p.foreign && folder != dir {
		return []string{folder, dir}
	}
	return []string{dir}
}

// directory is that of the file.
func (p *parser) directory() string {
	dir := filepath.Dir(p.opts.Filename)
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// workspaceFolder is the folder that .vscode, .cursor, .roo and the like are
// in, if the file is in one of those; else it is the file's directory.
func (p *parser) workspaceFolder() string {
	dir := p.directory()
	if parent := filepath.Dir(dir); strings.HasPrefix(filepath.Base(dir), ".") && parent != dir {
		return parent
	}
	return dir
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
