package section

import "testing"

func TestReplace(t *testing.T) {
	const page = "# Page\n\nWords.\n\n## One\n\nold\n\n### Part\n\nmore\n\n## Two\n\nold\n"
	for _, tt := range []struct{ title, want string }{
		{"One", "# Page\n\nWords.\n\n## One\n\nnew\n\n## Two\n\nold\n"},
		{"Two", "# Page\n\nWords.\n\n## One\n\nold\n\n### Part\n\nmore\n\n## Two\n\nnew\n"},
	} {
		if got, err := replace(page, tt.title, "\nnew\n\n"); err != nil || got != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.title, got, err, tt.want)
		}
	}
	if _, err := replace(page, "Three", "new"); err == nil {
		t.Error("no error for a section that is not there")
	}
}
