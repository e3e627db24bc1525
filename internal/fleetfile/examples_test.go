package fleetfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Parse(data, Options{Filename: name, Lookup: func(name string) (string, bool) { return "x", name == "BRAVE_API_KEY" }})
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		for _, s := range f.Servers {
			if s.Image == "" {
				t.Errorf("%s: want images only: %+v", name, s)
			}
		}
	}
}
