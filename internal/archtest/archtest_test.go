// Package archtest compares the imports of all packages with the tables in
// docs/ARCHITECTURE.md.
//
// Here a package is a folder of internal/ or cmd/ with the folders below it, so cli
// and cli/up are one. Imports of test files are not checked.
package archtest

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/mcpfleet/mcpfleet/"

// rules are the rules that the tables state.
type rules struct {
	rows      [][]string          // packages of each row, the top row first
	importers map[string][]string // the only importers of a library, by the prefix of its path
}

// readRules reads the two tables of a document that begin with "| row |" and
// "| library |". Names are in backticks, and text in parentheses is skipped.
func readRules(doc string) rules {
	r := rules{importers: make(map[string][]string)}
	remark, quoted := regexp.MustCompile(`\([^)]*\)`), regexp.MustCompile("`([^`]+)`")
	names := func(cell string) (out []string) {
		for _, m := range quoted.FindAllStringSubmatch(remark.ReplaceAllString(cell, ""), -1) {
			out = append(out, m[1])
		}
		return out
	}
	table := ""
	for line := range strings.Lines(doc) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 4 {
			table = ""
			continue
		}
		switch first := strings.TrimSpace(cells[1]); {
		case table == "":
			table = first
		case strings.HasPrefix(first, "---"):
		case table == "row":
			r.rows = append(r.rows, names(cells[2]))
		case table == "library":
			for _, library := range names(cells[1]) {
				r.importers[library] = names(cells[2])
			}
		}
	}
	return r
}

// violations returns the imports, and the entries of the table, that break a rule.
func (r rules) violations(imports map[string][]string) []string {
	var out []string
	row := make(map[string]int)
	for i, packages := range r.rows {
		for _, p := range packages {
			if _, twice := row[p]; twice {
				out = append(out, fmt.Sprintf("%s stands in the table twice", p))
			}
			if imports[p] == nil {
				out = append(out, fmt.Sprintf("%s stands in the table and does not exist", p))
			}
			row[p] = i
		}
	}
	for _, p := range slices.Sorted(maps.Keys(imports)) {
		if _, listed := row[p]; !listed {
			out = append(out, fmt.Sprintf("%s is missing from the table", p))
			continue
		}
		for _, path := range imports[p] {
			imported, ours := packageOf(path)
			below, listed := row[imported]
			if ours && listed && imported != p && below <= row[p] {
				out = append(out, fmt.Sprintf("%s imports %s, which is not in a row below", p, imported))
			}
			for library, importers := range r.importers {
				if path != library && imported != library && !strings.HasPrefix(path, library+"/") {
					continue
				}
				if !slices.Contains(importers, p) {
					out = append(out, fmt.Sprintf("%s imports %s, which is for %s", p, path, strings.Join(importers, ", ")))
				}
			}
		}
	}
	return out
}

// packageOf returns the package that an import path belongs to.
func packageOf(path string) (name string, ours bool) {
	path, ours = strings.CutPrefix(path, module)
	parts := strings.Split(path, "/")
	switch {
	case !ours || len(parts) < 2:
		return "", false
	case parts[0] == "cmd":
		return parts[0] + "/" + parts[1], true
	}
	return parts[1], parts[0] == "internal"
}

// readImports returns the imports of all packages below root, without those of
// test files.
func readImports(root string) (map[string][]string, error) {
	out := make(map[string][]string)
	read := func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "testdata":
			return filepath.SkipDir
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		p, _ := packageOf(module + filepath.ToSlash(relative))
		list := out[p]
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			list = append(list, imported)
		}
		slices.Sort(list)
		out[p] = append(make([]string, 0, len(list)), slices.Compact(list)...)
		return nil
	}
	return out, errors.Join(filepath.WalkDir(filepath.Join(root, "internal"), read), filepath.WalkDir(filepath.Join(root, "cmd"), read))
}

func TestImportsFollowTheTable(t *testing.T) {
	doc, err := os.ReadFile("../../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	r := readRules(string(doc))
	if len(r.rows) < 5 || len(r.importers) < 3 {
		t.Fatalf("the tables were not found: %+v", r)
	}
	imports, err := readImports("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(imports) < 30 {
		t.Fatalf("the packages were not found: %v", slices.Sorted(maps.Keys(imports)))
	}
	for _, v := range r.violations(imports) {
		t.Error(v)
	}
}

func TestViolations(t *testing.T) {
	const doc = "text with `code` | and | bars\n" +
		"| row | packages |\n|---|---|\n" +
		"| programs | `cmd/prog` |\n" +
		"| top | `a`, `b` (knows `c`) |\n" +
		"| bottom | `c` |\n\n" +
		"| word | meaning |\n|---|---|\n| `x` | `y` |\n\n" +
		"| library | imported by |\n|---|---|\n" +
		"| `example.com/net`, `example.com/disk` | `a` |\n" +
		"| `c` | `b`, `cmd/prog` |\n"
	for _, tt := range []struct {
		name    string
		changes map[string][]string // of packages that break no rule
		want    []string
	}{
		{name: "none"},
		{"upwards", map[string][]string{"c": {module + "internal/a"}}, []string{"c imports a, which is not in a row below"}},
		{"sideways", map[string][]string{"a": {module + "internal/b/part"}}, []string{"a imports b, which is not in a row below"}},
		{"its own parts", map[string][]string{"a": {module + "internal/a/part"}}, nil},
		{"a program", map[string][]string{"a": {module + "cmd/prog"}}, []string{"a imports cmd/prog, which is not in a row below"}},
		{"another's library", map[string][]string{"b": {"example.com/net"}}, []string{"b imports example.com/net, which is for a"}},
		{"a part of it", map[string][]string{"b": {"example.com/disk/v2"}}, []string{"b imports example.com/disk/v2, which is for a"}},
		{"a like name", map[string][]string{"b": {"example.com/network"}}, nil},
		{"one of ours with one importer", map[string][]string{"a": {module + "internal/c"}},
			[]string{"a imports " + module + "internal/c, which is for b, cmd/prog"}},
		{"not listed", map[string][]string{"d": {}}, []string{"d is missing from the table"}},
		{"gone", map[string][]string{"c": nil}, []string{"c stands in the table and does not exist"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			imports := map[string][]string{
				"cmd/prog": {"os", module + "internal/a", module + "internal/c"},
				"a":        {"example.com/net", "example.com/disk"},
				"b":        {module + "internal/c"},
				"c":        {"fmt"},
			}
			maps.Copy(imports, tt.changes)
			maps.DeleteFunc(imports, func(_ string, list []string) bool { return list == nil })
			if got := readRules(doc).violations(imports); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	twice := readRules("| row | packages |\n|---|---|\n| r | `a` |\n| s | `a` |\n")
	if got, want := twice.violations(map[string][]string{"a": {}}), []string{"a stands in the table twice"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
