package fleetfile

import (
	"path/filepath"
	"strings"
)

// resolveRelative makes relative paths in a command independent of the worker's
// directory. It looks for them in the server's cwd, then in the directories that
// the file may mean; see directories. If an argument is a path there and the
// server has no cwd, the directory becomes its cwd and the argument stays
// unchanged.
func (d *serverDecoder) resolveRelative() {
	s := &d.spec
	if d.literal || s.Image != "" || len(s.Command) == 0 {
		return
	}
	// find returns the first directory that has the path, or "".
	find := func(path string, in func(dir, path string) bool) string {
		for _, dir := range d.directories() {
			if in(dir, path) {
				return dir
			}
		}
		return ""
	}
	if program := s.Command[0]; isRelativePath(program) {
		dir := find(program, d.exists)
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
			dir := find(path, d.meansFile)
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

// exists reports whether a path exists in a directory. It returns false for the
// directory "".
func (p *parser) exists(dir, path string) bool {
	if p.opts.Stat == nil || dir == "" {
		return false
	}
	_, err := p.opts.Stat(filepath.Join(dir, path))
	return err == nil
}

// absolute makes a path absolute. A relative path is relative to the file's
// directory, as in Compose. In a client's file in .vscode or the like, it is
// relative to the workspace folder.
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

// directories returns the directories that relative paths may refer to, the most
// likely one first.
func (p *parser) directories() []string {
	dir, folder := p.directory(), p.workspaceFolder()
	if p.foreign && folder != dir {
		return []string{folder, dir}
	}
	return []string{dir}
}

// directory returns the directory of the file.
func (p *parser) directory() string {
	dir := filepath.Dir(p.opts.Filename)
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// workspaceFolder returns the parent of .vscode, .cursor, .roo and the like if
// the file is in one of those, and otherwise the file's directory.
func (p *parser) workspaceFolder() string {
	dir := p.directory()
	if parent := filepath.Dir(dir); strings.HasPrefix(filepath.Base(dir), ".") && parent != dir {
		return parent
	}
	return dir
}

// meansFile reports whether an argument is a relative path that exists in a
// directory. A word without a slash must be a regular file: many programs take
// words that happen to be the names of directories.
func (d *serverDecoder) meansFile(dir, path string) bool {
	if d.opts.Stat == nil || path == "" || filepath.IsAbs(path) || strings.Contains(path, "://") || strings.ContainsRune(path, 0) {
		return false
	}
	info, err := d.opts.Stat(filepath.Join(dir, path))
	return err == nil && (isRelativePath(path) || path == "." || path == ".." || info.Mode().IsRegular())
}

// isRelativePath reports whether a word can only be a relative path.
func isRelativePath(word string) bool {
	return strings.Contains(word, "/") && !filepath.IsAbs(word) && !strings.Contains(word, "://")
}
