// Package section writes one section of a Markdown page, for pages that several
// programs write.
package section

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Write replaces the section of the page at path that begins with the line
// "## title". A section ends before the next one. The page must have it.
func Write(path, title, text string) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := replace(string(page), title, text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(changed), 0o644)
}

func replace(page, title, text string) (string, error) {
	const mark = "\n\n## "
	parts := strings.Split(page, mark)
	for i, part := range parts[1:] {
		if head, _, _ := strings.Cut(part, "\n"); head == title {
			parts[i+1] = title + "\n\n" + strings.TrimSpace(text)
			return strings.TrimSpace(strings.Join(parts, mark)) + "\n", nil
		}
	}
	return "", errors.New("no section " + title)
}
